"""What a node is made of. A node is one file: parameters, input and output handles, and `run`.

from tradingflow.py_worker.kit import Node, NodeContext, NodeInputs, NodeOutputs, NodeParams
"""

from tradingflow.outbound.client import HttpResponse
from tradingflow.py_worker.kit.batch import BatchRun, Column
from tradingflow.py_worker.kit.context import (
    Approvals,
    Asking,
    CodeResult,
    CodeRunner,
    Datasets,
    HttpClient,
    Incoming,
    Missing,
    NodeContext,
    NodeLogger,
    NodeState,
    Secret,
    SecretRef,
    Secrets,
    Trigger,
    missing,
)
from tradingflow.py_worker.kit.handles import (
    NOT_TAKEN,
    Amount,
    Handle,
    HandleSpec,
    Json,
    NodeInputs,
    NodeOutputs,
    NodeParams,
    kinds_fit,
)
from tradingflow.py_worker.kit.markets import (
    CandleQuery,
    CandleSource,
    MarketData,
    PoolPrice,
    Quote,
    SwapIntent,
    TokenInfo,
    TradeGateway,
    TradeReceipt,
)
from tradingflow.py_worker.kit.node import Node, NodeFailed, ParamError
from tradingflow.py_worker.kit.registry import catalog, node_types

__all__ = [
    "NOT_TAKEN",
    "Amount",
    "Approvals",
    "Asking",
    "BatchRun",
    "CandleQuery",
    "CandleSource",
    "CodeResult",
    "CodeRunner",
    "Column",
    "Datasets",
    "Handle",
    "HandleSpec",
    "HttpClient",
    "HttpResponse",
    "Incoming",
    "Json",
    "MarketData",
    "Missing",
    "Node",
    "NodeContext",
    "NodeFailed",
    "NodeInputs",
    "NodeLogger",
    "NodeOutputs",
    "NodeParams",
    "NodeState",
    "ParamError",
    "PoolPrice",
    "Quote",
    "Secret",
    "SecretRef",
    "Secrets",
    "SwapIntent",
    "TokenInfo",
    "TradeGateway",
    "TradeReceipt",
    "Trigger",
    "catalog",
    "kinds_fit",
    "missing",
    "node_types",
]
