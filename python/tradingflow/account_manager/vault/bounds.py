"""How much of what a vault names is asked of the chain. Its owner names as many tokens and routers as they like."""

from __future__ import annotations

MAX_TOKENS = 200
MAX_ROUTERS = 200
# Calls for one vault under way at once: the chain's nodes answer for all vaults.
CALLS_AT_ONCE = 20
