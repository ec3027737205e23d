"""Contracts users ask the Monitor to follow, and the ABIs they read their events by."""
