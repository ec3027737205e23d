"""Getting a signed call mined exactly once: nonces, attempts, replacement, reorgs. Knows nothing of trades."""
