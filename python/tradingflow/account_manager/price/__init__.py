"""What tokens are worth in the chain's quote token."""
