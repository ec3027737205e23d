"""Vaults and markets that exist in memory only, as exact as the contracts: for backtests and paper trading."""
