"""TradingFlow's own processes, as `make run` starts them: the commands of the README, on the local chain."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from celery import Celery
from kombu.exceptions import OperationalError

from devstack.anvil import CHAIN_ID
from devstack.endpoints import Endpoints
from devstack.errors import DevstackError
from devstack.main_job.accounts import OPERATOR, account
from devstack.main_job.deployment import Deployment
from devstack.ports import LOOPBACK, Ports
from devstack.secret import local_password
from devstack.service import ServiceProcess

CELERY_APP = "tradingflow.account_manager.celery_worker"
CELERY_PROCESSES = 2
PING_TIMEOUT_S = 1.0


class Platform:
    """Environment and processes of the services; each gets only the secrets its service reads."""

    def __init__(self, repository: Path, endpoints: Endpoints, deployment: Deployment, ports: Ports) -> None:
        self._python = repository / "python"
        self._local = repository / ".local"
        self._ports = ports
        self._rpc_url = endpoints.rpc_url
        self._broker_url = endpoints.rabbitmq_url
        self._environment = self._common_environment(endpoints, deployment)
        self.urls = {
            "Account Manager": f"http://{LOOPBACK}:{ports.account_manager}",
            "Python Worker": f"http://{LOOPBACK}:{ports.py_worker}",
            "Monitor": f"http://{LOOPBACK}:{ports.monitor}",
        }

    def migrate(self) -> None:
        """Bring the database to the newest schema; raises DevstackError with Alembic's last words."""
        done = self._run([sys.executable, "-m", "alembic", "upgrade", "head"])
        if done.returncode != 0:
            raise DevstackError(f"the migrations failed\n{done.stderr[-4000:]}")

    def processes(self) -> list[ServiceProcess]:
        """The services, in no particular order: each waits for what it needs."""
        return [
            self._server("account-manager", "tradingflow.account_manager.server", "Account Manager", self._account()),
            self._server("py-worker", "tradingflow.py_worker.server", "Python Worker", {}),
            self._server("monitor", "tradingflow.monitor.server", "Monitor", {}),
            self._celery("celery-worker", ["worker", f"--concurrency={CELERY_PROCESSES}"], ready=self._celery_answers),
            self._celery("celery-beat", ["beat", f"--schedule={self._local / 'celery-beat' / 'schedule'}"]),
        ]

    def market_maker(self, market_file: Path, candles: Path | None) -> ServiceProcess:
        """The trader that keeps the pool's price moving."""
        command = [sys.executable, "-m", "devstack.main_job.market_maker", str(market_file)]
        command += ["--rpc-url", self._rpc_url]
        if candles is not None:
            command += ["--candles", str(candles.resolve())]
        return self._process("market-maker", command, {})

    def _server(self, name: str, module: str, title: str, secrets: dict[str, str]) -> ServiceProcess:
        url = self.urls[title]
        command = [sys.executable, "-m", module]
        port = int(url.rsplit(":", 1)[1])
        return self._process(name, command, secrets, port=port, url=url, ready_url=f"{url}/health/ready")

    def _celery(self, name: str, arguments: list[str], *, ready: Callable[[], bool] | None = None) -> ServiceProcess:
        command = [sys.executable, "-m", "celery", "-A", CELERY_APP, *arguments]
        key = "0x" + account(OPERATOR).key.hex().removeprefix("0x")
        return self._process(name, command, {"OPERATOR_PRIVATE_KEY": key}, ready=ready)

    def _process(
        self,
        name: str,
        command: list[str],
        secrets: dict[str, str],
        *,
        port: int | None = None,
        url: str | None = None,
        ready_url: str | None = None,
        ready: Callable[[], bool] | None = None,
    ) -> ServiceProcess:
        return ServiceProcess(
            name,
            command,
            directory=self._local / name,
            cwd=self._python,
            env=self._environment | secrets,
            port=port,
            url=url,
            ready_url=ready_url,
            ready=ready,
        )

    def _celery_answers(self) -> bool:
        """Asked through the broker by an app without tasks: `celery inspect` would import ours, 3 s, at every try."""
        with Celery("devstack", broker=self._broker_url, set_as_current=False) as app:
            try:
                return bool(app.control.inspect(timeout=PING_TIMEOUT_S, limit=1).ping())
            except OperationalError:
                return False

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        environment = os.environ | self._environment
        return subprocess.run(command, cwd=self._python, env=environment, capture_output=True, text=True, check=False)

    def _account(self) -> dict[str, str]:
        where = f"{LOOPBACK}:{self._ports.account_manager}"
        secrets = self._local / "account-manager"
        return {
            "SIWE_DOMAIN": where,
            "SIWE_URI": f"http://{where}",
            "JWT_SEED": local_password(secrets / "jwt-seed"),
            "CREDENTIALS_KEY": local_password(secrets / "credentials-key", size_bytes=32),
        }

    def _common_environment(self, endpoints: Endpoints, deployment: Deployment) -> dict[str, str]:
        market = deployment.market
        chain = {
            "chain_id": CHAIN_ID,
            "name": "local",
            "rpc_urls": [endpoints.rpc_url],
            "vault_factory": deployment.vault_factory,
            "swap_router": market.swap_router,
            "quoter": market.quoter,
            "pools": [market.pool],
            "quote_token": market.quote_token,
            "start_block": deployment.start_block,
            "finality_blocks": 64,
            "poll_interval_s": 0.3,
        }
        return endpoints.environment() | {
            "ENVIRONMENT": "local",
            "LOG_FORMAT": "json",
            "CHAINS": json.dumps([chain]),
            "ACCOUNT_MANAGER_PORT": str(self._ports.account_manager),
            "PY_WORKER_PORT": str(self._ports.py_worker),
            "MONITOR_PORT": str(self._ports.monitor),
            "CELERY_WORKER_PORT": str(self._ports.celery_worker),
            "CELERY_BEAT_PORT": str(self._ports.celery_beat),
            "JWKS_URL": f"http://{LOOPBACK}:{self._ports.account_manager}/.well-known/jwks.json",
        }
