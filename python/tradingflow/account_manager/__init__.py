"""Accounts, wallets, vaults, tokens, prices, portfolio, trades: what a front end lives on, and the jobs behind it."""
