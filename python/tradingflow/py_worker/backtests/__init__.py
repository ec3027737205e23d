"""Backtests over REST: asked for, run by any worker in a process of their own, kept with their results."""
