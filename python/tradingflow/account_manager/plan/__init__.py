"""Plans: how much one account may have."""
