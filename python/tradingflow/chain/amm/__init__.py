"""Automated market makers, integer-exact: what a swap would pay for a given state of a pool. Pure."""
