"""What the Monitor tells Prometheus."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

EVENTS = Counter("monitor_events_stored_total", "Events stored", ["chain_id"])
UNDECODED = Counter("monitor_events_undecoded_total", "Events stored raw", ["chain_id"])
LAG_BLOCKS = Gauge("monitor_head_lag_blocks", "Blocks between the node's head and the last stored block", ["chain_id"])
LAG_SECONDS = Gauge("monitor_head_lag_seconds", "Age of the last stored block when it was stored", ["chain_id"])
CONTRACTS = Gauge("monitor_contracts", "Contracts whose events are stored", ["chain_id"])
HALTED = Gauge("monitor_chain_halted", "1 while an operator must look at this chain", ["chain_id"])
REORGS = Counter("monitor_reorgs_total", "Reorgs followed", ["chain_id"])
REORG_DEPTH = Histogram(
    "monitor_reorg_depth_blocks", "Blocks undone by a reorg", ["chain_id"], buckets=(1, 2, 4, 8, 16, 32, 64, 128)
)
RPC_ERRORS = Counter("monitor_rpc_errors_total", "Requests a node failed to answer", ["chain_id", "node", "code"])
