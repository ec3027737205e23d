"""The local platform: data servers, chain and services started for development and tests.

Never part of a production image, and never imported by ``tradingflow``.
"""
