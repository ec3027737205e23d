"""An unchanged flow version over history: the same graph and the same nodes, with time, data and fills simulated.

`run.backtest` is the way in. Nothing here reads the wall clock: the same input gives the same bytes.
"""
