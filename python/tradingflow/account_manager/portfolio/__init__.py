"""Balances and values of vaults."""
