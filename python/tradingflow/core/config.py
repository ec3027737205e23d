"""Settings: the only reader of the environment and of `.env`.

Each process builds exactly the class of its service, so a process never even holds a secret it has no use for
(only `ExecutorSettings` knows operator keys).
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import quote

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, IPvAnyNetwork, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from tradingflow.core.errors import InvalidInput
from tradingflow.core.evm import parse_address

# No token of a session that ended may outlive what is remembered of its end.
LONGEST_ACCESS_TOKEN_S = 3600
LOCAL_ONLY_SECRETS = frozenset({"tradingflow", "change-me", "guest", "postgres", "password"})


def _address(text: str) -> str:
    try:
        return parse_address(text)
    except InvalidInput as error:
        raise ValueError(error.detail) from error


Address = Annotated[str, BeforeValidator(_address)]
ExchangeMarket = Annotated[str, Field(pattern=r"^[a-z0-9]+:[A-Za-z0-9._-]+$")]


class ChainSettings(BaseModel):
    """One EVM chain we serve.

    `start_block` is where the Monitor begins, `finality_blocks` how deep a reorg may go, `quote_token` what values
    are expressed in. `swap_router` is Uniswap V3's, `v2_router` that of V2 pairs; without the second the first stands
    for both. `price_source` is what a vault's loss cap measures by when its owner names nothing else (`IPriceSource`).
    `coingecko_platform` and `geckoterminal_network` are the chain's names there (`ethereum`, `eth`).
    `exchange_markets` names the market of a token, as `exchange:market` in ccxt's word and the exchange's own
    (`binance:ETHUSDT`); its quote currency counts as the quote token. `max_trade_gas` is the most gas a trade may use:
    a swap over four pools takes a third of the default, and some chains count gas otherwise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    chain_id: int = Field(gt=0)
    name: str
    rpc_urls: tuple[str, ...] = Field(min_length=1)
    ws_url: str | None = None
    vault_factory: Address | None = None
    swap_router: Address | None = None
    v2_router: Address | None = None
    quoter: Address | None = None
    price_source: Address | None = None
    start_block: int = Field(default=0, ge=0)
    finality_blocks: int = Field(default=64, ge=1)
    poll_interval_s: float = Field(default=0.5, gt=0)
    max_trade_gas: int = Field(default=3_000_000, ge=21_000)
    pools: tuple[Address, ...] = ()
    quote_token: Address | None = None
    coingecko_platform: str | None = None
    geckoterminal_network: str | None = None
    exchange_markets: dict[Address, ExchangeMarket] = {}

    def router_for(self, *, is_v2: bool) -> str | None:
        """The router for paths of this kind that name none; None where the chain has none."""
        return (self.v2_router or self.swap_router) if is_v2 else self.swap_router


class Environment(BaseSettings):
    """Where all settings come from. A variable that is set but empty counts as not set."""

    model_config = SettingsConfigDict(
        env_file=("../.env", ".env"), env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )


class MessengerSettings(Environment):
    """What takes messages to people."""

    telegram_bot_token: SecretStr | None = None
    telegram_url: str = "https://api.telegram.org"
    smtp_host: str | None = None
    smtp_port: int = 587
    smtp_security: Literal["starttls", "tls", "none"] = "starttls"
    smtp_user: str | None = None
    smtp_password: SecretStr | None = None
    smtp_from: str = "TradingFlow <noreply@localhost>"


class AlertSettings(MessengerSettings):
    """Whom Alertmanager tells what Prometheus finds; nobody, without any of these."""

    alert_webhook_url: SecretStr | None = None
    alert_telegram_chat: int | None = None
    alert_email_to: str | None = Field(default=None, description="One address, or several with commas between")
    alert_heartbeat_url: SecretStr | None = Field(default=None, description="Asked each minute while alerts work")


class PlatformSettings(Environment):
    """What every service shares: environment, logs, the three data services, the chains.

    The data services are on `data_server_host` unless one has a host, or a whole URL, of its own.
    """

    environment: Literal["local", "staging", "production"] = "local"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["json", "console"] = "json"
    log_dir: str | None = None

    otel_exporter_otlp_endpoint: str | None = None
    otel_traces_sample_ratio: float = Field(default=1.0, ge=0, le=1)

    data_server_host: str = "127.0.0.1"

    postgres_host: str | None = None
    postgres_port: int = 5432
    postgres_user: str = "tradingflow"
    postgres_password: SecretStr = SecretStr("tradingflow")
    postgres_db: str = "tradingflow"
    database_url: SecretStr | None = None

    redis_host: str | None = None
    redis_port: int = 6379
    redis_password: SecretStr = SecretStr("tradingflow")
    redis_url: SecretStr | None = None

    rabbitmq_host: str | None = None
    rabbitmq_port: int = 5672
    rabbitmq_user: str = "tradingflow"
    rabbitmq_password: SecretStr = SecretStr("tradingflow")
    rabbitmq_vhost: str = "tradingflow"
    rabbitmq_url: SecretStr | None = None

    cycle_partitions: int = Field(default=16, ge=1, le=256)
    public_https: bool = Field(default=False, description="Clients come over https: answers say so to browsers (HSTS)")
    chains: tuple[ChainSettings, ...] = ()

    @cached_property
    def database_dsn(self) -> str:
        """SQLAlchemy URL with the asyncpg driver."""
        if self.database_url:
            return self.database_url.get_secret_value()
        password = quote(self.postgres_password.get_secret_value(), safe="")
        host = self.postgres_host or self.data_server_host
        return f"postgresql+asyncpg://{self.postgres_user}:{password}@{host}:{self.postgres_port}/{self.postgres_db}"

    @cached_property
    def redis_dsn(self) -> str:
        if self.redis_url:
            return self.redis_url.get_secret_value()
        password = quote(self.redis_password.get_secret_value(), safe="")
        return f"redis://:{password}@{self.redis_host or self.data_server_host}:{self.redis_port}/0"

    @cached_property
    def rabbitmq_dsn(self) -> str:
        if self.rabbitmq_url:
            return self.rabbitmq_url.get_secret_value()
        password = quote(self.rabbitmq_password.get_secret_value(), safe="")
        vhost = quote(self.rabbitmq_vhost, safe="")
        host = self.rabbitmq_host or self.data_server_host
        return f"amqp://{self.rabbitmq_user}:{password}@{host}:{self.rabbitmq_port}/{vhost}"

    def chain(self, chain_id: int) -> ChainSettings:
        """Raises InvalidInput for a chain we do not serve, naming those we do."""
        for chain in self.chains:
            if chain.chain_id == chain_id:
                return chain
        served = ", ".join(str(c.chain_id) for c in self.chains) or "none"
        raise InvalidInput("unknown_chain", f"chain {chain_id} is not served; allowed: {served}")

    @model_validator(mode="after")
    def _production_has_real_secrets(self) -> Self:
        if self.environment == "production" and (weak := self._weak_secrets()):
            raise ValueError(f"ENVIRONMENT=production refuses to start with local defaults for: {', '.join(weak)}")
        return self

    def _weak_secrets(self) -> list[str]:
        """Environment names of secrets that are unset or still hold a published default."""
        replaced = {
            "postgres_password": self.database_url,
            "redis_password": self.redis_url,
            "rabbitmq_password": self.rabbitmq_url,
        }
        return [
            name.upper()
            for name in type(self).model_fields
            if isinstance(value := getattr(self, name), SecretStr)
            and replaced.get(name) is None
            and _is_weak(value.get_secret_value())
        ]


def _is_weak(secret: str) -> bool:
    return not secret or secret in LOCAL_ONLY_SECRETS or any(f":{word}@" in secret for word in LOCAL_ONLY_SECRETS)


# Public development keys, written down so that a local start needs no set-up. Production refuses them by name.
LOCAL_JWT_SEED = "tradingflow-local-development-key"
LOCAL_CREDENTIALS_KEY = "00" * 32


class AccountManagerSettings(PlatformSettings):
    """The Account Manager's web process. It signs access tokens; it cannot sign transactions."""

    account_manager_host: str = "127.0.0.1"
    account_manager_port: int = 7000
    jwt_seed: SecretStr = SecretStr(LOCAL_JWT_SEED)
    jwt_issuer: str = "tradingflow"
    access_token_ttl_s: int = Field(default=900, ge=60, le=LONGEST_ACCESS_TOKEN_S)
    refresh_token_ttl_s: int = Field(default=30 * 86_400, ge=3600)
    siwe_domain: str = "127.0.0.1:7000"
    siwe_uri: str = "http://127.0.0.1:7000"
    siwe_nonce_ttl_s: int = Field(default=300, ge=30, le=300)
    credentials_key: SecretStr = SecretStr(LOCAL_CREDENTIALS_KEY)
    cors_origins: tuple[str, ...] = ()
    sign_in_limit: str = Field(
        default="60/minute", description="Per client address, and per account that links wallets"
    )
    deploy_limit: str = Field(default="20/hour", description="Vault deployments per account")
    request_limit: str = Field(default="3000/minute", description="Requests per account")

    def _weak_secrets(self) -> list[str]:
        weak = super()._weak_secrets()
        if self.jwt_seed.get_secret_value() == LOCAL_JWT_SEED:
            weak.append("JWT_SEED")
        if self.credentials_key.get_secret_value() == LOCAL_CREDENTIALS_KEY:
            weak.append("CREDENTIALS_KEY")
        return weak


class TradingSettings(PlatformSettings):
    """What trades are held to, on the chain and on paper.

    `trade_price_check` is off by default where ENVIRONMENT=local: a chain that has just begun remembers no prices to
    compare.
    """

    trade_price_check: Literal["required", "off"] | None = None

    @property
    def checks_prices(self) -> bool:
        """Whether a trade needs a price that several sources agree on."""
        wanted = self.trade_price_check or ("off" if self.environment == "local" else "required")
        return wanted == "required"


class ExecutorSettings(MessengerSettings, TradingSettings):
    """The Celery worker: the only process that can read operator keys.

    `operator_private_key` holds one key or several separated by commas; a keystore file (Web3 Secret Storage) may
    stand in for it. Times of a trade: an attempt is mined before its deadline or reverts, is replaced by a better paid
    one after `replace_after_s`, and the trade is given up after `trade_ttl_s`. Host and port serve metrics only.
    """

    celery_worker_host: str = "127.0.0.1"
    celery_worker_port: int = Field(default=7004, ge=0, le=65_535, description="0 serves no metrics")
    operator_private_key: SecretStr = SecretStr("")
    operator_keystore: Path | None = None
    operator_keystore_password: SecretStr = SecretStr("")
    trade_deadline_s: int = Field(default=90, ge=5, le=120)
    replace_after_s: float = Field(default=30, gt=0)
    trade_ttl_s: int = Field(default=600, ge=10)
    trade_confirmations: int = Field(default=1, ge=1)
    max_fee_per_gas_gwei: int = Field(default=500, ge=1)
    coingecko_url: str = "https://api.coingecko.com/api/v3"
    coingecko_api_key: SecretStr | None = None
    geckoterminal_url: str = "https://api.geckoterminal.com/api/v2"
    credentials_key: SecretStr = SecretStr(LOCAL_CREDENTIALS_KEY)
    outbound_allowed: tuple[IPvAnyNetwork, ...] = Field(
        default=(), description="Networks webhooks may reach although they are not public"
    )

    def _weak_secrets(self) -> list[str]:
        unused = "OPERATOR_KEYSTORE_PASSWORD" if self.operator_keystore is None else "OPERATOR_PRIVATE_KEY"
        weak = [name for name in super()._weak_secrets() if name != unused]
        if self.credentials_key.get_secret_value() == LOCAL_CREDENTIALS_KEY:
            weak.append("CREDENTIALS_KEY")
        return weak


class BeatSettings(PlatformSettings):
    """Celery beat; its port serves metrics only."""

    celery_beat_host: str = "127.0.0.1"
    celery_beat_port: int = Field(default=7005, ge=0, le=65_535, description="0 serves no metrics")


class WorkerSettings(TradingSettings):
    """The Python Worker. It verifies access tokens with public keys only."""

    py_worker_host: str = "127.0.0.1"
    py_worker_port: int = 7001
    worker_id: str | None = None
    jwks_url: str = "http://127.0.0.1:7000/.well-known/jwks.json"
    jwt_issuer: str = "tradingflow"
    max_nodes_in_flight: int = Field(default=1000, ge=1)
    history_max_age_days: int = Field(default=180, ge=0, description="0 keeps cycles for ever")
    history_max_cycles: int = Field(default=100_000, ge=0, description="Of one flow; 0 keeps all")
    history_traded_cycles_too: bool = False
    credentials_key: SecretStr = SecretStr(LOCAL_CREDENTIALS_KEY)
    outbound_allowed: tuple[IPvAnyNetwork, ...] = Field(
        default=(), description="Networks nodes may reach although they are not public"
    )
    sandbox_user_id: int = Field(default=64_998, ge=1)
    sandbox_processes: int = Field(default=4, ge=1, le=64)
    sandbox_accept_missing: tuple[str, ...] = Field(
        default=(), description="Parts of the sandbox wall to live without, by name"
    )

    def _weak_secrets(self) -> list[str]:
        weak = super()._weak_secrets()
        if self.credentials_key.get_secret_value() == LOCAL_CREDENTIALS_KEY:
            weak.append("CREDENTIALS_KEY")
        return weak


class MonitorSettings(PlatformSettings):
    """The Monitor; its port serves health and metrics only."""

    monitor_host: str = "127.0.0.1"
    monitor_port: int = 7002
