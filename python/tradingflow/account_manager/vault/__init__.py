"""Vaults: deploying, reading, and the unsigned transactions of their owners."""
