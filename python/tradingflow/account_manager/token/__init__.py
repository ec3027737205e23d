"""The token registry, as the chain describes it."""
