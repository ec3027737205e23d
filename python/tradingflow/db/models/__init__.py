"""All tables. Importing this package fills the one metadata Alembic compares with."""

from tradingflow.db.models.account import AuthSession, RefreshToken, User, Wallet
from tradingflow.db.models.base import Base
from tradingflow.db.models.chain import ChainBlock, ChainCursor, ContractEvent, MonitoredContract
from tradingflow.db.models.flow import Cycle, Flow, FlowLog, FlowVersion, NodeTask, Schedule
from tradingflow.db.models.outbox import OutboxMessage
from tradingflow.db.models.token import Token
from tradingflow.db.models.trade import Signer, Trade, Transaction
from tradingflow.db.models.vault import Vault, VaultDeployment

__all__ = [
    "AuthSession",
    "Base",
    "ChainBlock",
    "ChainCursor",
    "ContractEvent",
    "Cycle",
    "Flow",
    "FlowLog",
    "FlowVersion",
    "MonitoredContract",
    "NodeTask",
    "OutboxMessage",
    "RefreshToken",
    "Schedule",
    "Signer",
    "Token",
    "Trade",
    "Transaction",
    "User",
    "Vault",
    "VaultDeployment",
    "Wallet",
]
