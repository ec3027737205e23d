"""Paper trading: live markets and schedules, vaults that exist in PostgreSQL only."""
