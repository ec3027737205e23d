"""Trades: executing them once, and their history."""
