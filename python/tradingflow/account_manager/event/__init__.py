"""Decoded contract events, as the Monitor stored them."""
