"""Fixtures of the guarded client's tests."""

from tests.integration.local_server import server

__all__ = ["server"]
