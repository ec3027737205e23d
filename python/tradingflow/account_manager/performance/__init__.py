"""How vaults and flows fared: profit, return and drawdown, from the chain's own events."""
