"""TradingFlow: design, test and execute crypto strategies as graphs of nodes."""

__version__ = "0.1.0"
