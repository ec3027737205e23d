"""All tables. Importing this package fills the one metadata Alembic compares with."""

from tradingflow.db.models.account import (
    ApiKey,
    AuthSession,
    Credential,
    Plan,
    RefreshToken,
    User,
    UserPreferences,
    Wallet,
)
from tradingflow.db.models.approval import Approval
from tradingflow.db.models.backtest import BacktestFile, BacktestJob
from tradingflow.db.models.base import Base
from tradingflow.db.models.candle import ExchangeCandle, ExchangeCandleSpan
from tradingflow.db.models.chain import (
    ChainBlock,
    ChainCursor,
    ContractAbi,
    ContractEvent,
    ContractImplementation,
    FactoryRule,
    MonitoredContract,
    UserContract,
)
from tradingflow.db.models.dataset import Dataset, DatasetRow, DatasetWrite
from tradingflow.db.models.flow import (
    Cycle,
    DeadLetter,
    Flow,
    FlowHook,
    FlowLog,
    FlowVersion,
    NodeStateEntry,
    NodeTask,
    Schedule,
    TriggerEvent,
)
from tradingflow.db.models.job import JobRun
from tradingflow.db.models.notification import (
    EventSubscription,
    NotificationChannel,
    NotificationCursor,
    NotificationDelivery,
)
from tradingflow.db.models.outbox import OutboxMessage
from tradingflow.db.models.portfolio import BlockPrice, PricePoint, VaultValuation
from tradingflow.db.models.simulation import JournalEntry, PaperTrade, PaperVault, ShadowDivergence
from tradingflow.db.models.token import Token
from tradingflow.db.models.trade import Signer, Trade, Transaction, VaultSpend
from tradingflow.db.models.vault import Vault, VaultDeployment

__all__ = [
    "ApiKey",
    "Approval",
    "AuthSession",
    "BacktestFile",
    "BacktestJob",
    "Base",
    "BlockPrice",
    "ChainBlock",
    "ChainCursor",
    "ContractAbi",
    "ContractEvent",
    "ContractImplementation",
    "Credential",
    "Cycle",
    "Dataset",
    "DatasetRow",
    "DatasetWrite",
    "DeadLetter",
    "EventSubscription",
    "ExchangeCandle",
    "ExchangeCandleSpan",
    "FactoryRule",
    "Flow",
    "FlowHook",
    "FlowLog",
    "FlowVersion",
    "JobRun",
    "JournalEntry",
    "MonitoredContract",
    "NodeStateEntry",
    "NodeTask",
    "NotificationChannel",
    "NotificationCursor",
    "NotificationDelivery",
    "OutboxMessage",
    "PaperTrade",
    "PaperVault",
    "Plan",
    "PricePoint",
    "RefreshToken",
    "Schedule",
    "ShadowDivergence",
    "Signer",
    "Token",
    "Trade",
    "Transaction",
    "TriggerEvent",
    "User",
    "UserContract",
    "UserPreferences",
    "Vault",
    "VaultDeployment",
    "VaultSpend",
    "VaultValuation",
    "Wallet",
]
