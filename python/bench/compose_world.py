"""What containers need beside the compose files: a chain with our contracts in their reach, and settings that fit."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_network
from pathlib import Path
from socket import create_connection, create_server, socket

from rich.console import Console
from web3 import Web3

from bench.compose_project import REPOSITORY
from bench.figure import progress
from devstack.anvil import CHAIN_ID, Anvil
from devstack.errors import DevstackError
from devstack.main_job.accounts import OPERATOR, TRADER, account
from devstack.main_job.api import Api
from devstack.main_job.chain_truth import ChainTruth
from devstack.main_job.deployment import Deployment, deploy
from devstack.main_job.job import MainJob, Parts
from devstack.main_job.steps import Steps
from devstack.main_job.summary import Summary
from devstack.main_job.wallet import Wallet
from devstack.ports import free_port
from devstack.service import ServiceProcess
from devstack.uniswap import Artifacts

DATA_PORTS = ("POSTGRES_PORT", "REDIS_PORT", "RABBITMQ_PORT", "RABBITMQ_MANAGEMENT_PORT")
SERVICE_PORTS = ("ACCOUNT_MANAGER_PORT", "PY_WORKER_PORT", "MONITOR_PORT")
MIN_CYCLES = 5


class World:
    """A chain with our contracts and a market that moves, reachable from containers."""

    def __init__(self, folder: Path, opened: ExitStack) -> None:
        self.folder = folder
        chain = Anvil(folder / "chain", free_port(), repository=REPOSITORY, block_time_s=1.0, persistent=False)
        opened.callback(chain.stop)
        chain.start()
        self.rpc_url = chain.url
        self._chain = chain
        self.deployment = deploy(chain.url, REPOSITORY)
        self.address = engine_address()
        relay = Relay(self.address, chain.port)
        opened.callback(relay.close)
        self.relay_port = relay.port
        self._start_market(opened)

    def chain_pid(self) -> int:
        """The process that plays the RPC node."""
        pid = self._chain.pid
        if pid is None:
            raise DevstackError("the chain does not run")
        return pid

    def _start_market(self, opened: ExitStack) -> None:
        market_file = self.folder / "market.json"
        market_file.write_text(self.deployment.market.as_json())
        command = [sys.executable, "-m", "devstack.main_job.market_maker", str(market_file), "--rpc-url", self.rpc_url]
        maker = ServiceProcess("market", command, directory=self.folder / "market", cwd=REPOSITORY / "python", env={})
        opened.callback(maker.stop)
        maker.start()


def parts_for(world: World, settings: dict[str, str]) -> Parts:
    """What the main job of `make run` needs to be played against the published ports."""
    web3 = Web3(Web3.HTTPProvider(world.rpc_url))
    artifacts, deployment = Artifacts(REPOSITORY), world.deployment
    return Parts(
        accounts=Api(f"http://127.0.0.1:{settings['ACCOUNT_MANAGER_PORT']}"),
        worker=Api(f"http://127.0.0.1:{settings['PY_WORKER_PORT']}"),
        wallet=Wallet(account(TRADER), web3),
        truth=ChainTruth(web3, artifacts, deployment.market, deployment.vault_factory),
        deployment=deployment,
        artifacts=artifacts,
        min_cycles=MIN_CYCLES,
    )


def job_of(parts: Parts) -> tuple[MainJob, Summary]:
    """The main job, telling its steps on standard error, and the summary it fills."""
    summary = Summary()
    return MainJob(parts, Steps(Console(stderr=True)), summary), summary


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder on disk (not in memory) for data and settings, removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="tradingflow-prove-", dir="/var/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def engine_address() -> str:
    """The address under which containers reach this machine; raises DevstackError when no engine answers."""
    form = "{{(index .IPAM.Config 0).Subnet}}"
    command = ["docker", "network", "inspect", "bridge", "--format", form]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DevstackError(f"no Docker engine answers\n  what to do: start it; DOCKER_HOST chooses one\n{done.stderr}")
    # Docker gives the bridge the first address of its network.
    return str(next(ip_network(done.stdout.strip()).hosts()))


def settings_for(deployment: Deployment, rpc_port: int, folder: Path) -> dict[str, str]:
    """Settings of a deployment beside others: free ports, data below `folder`, real passwords, the chain given."""
    market = deployment.market
    chain = {
        "chain_id": CHAIN_ID,
        "name": "local",
        "rpc_urls": [f"http://host.docker.internal:{rpc_port}"],
        "vault_factory": deployment.vault_factory,
        "swap_router": market.swap_router,
        "quoter": market.quoter,
        "pools": [market.pool],
        "quote_token": market.quote_token,
        "start_block": deployment.start_block,
        "poll_interval_s": 0.3,
    }
    ports = {name: str(free_port()) for name in (*DATA_PORTS, *SERVICE_PORTS)}
    where = f"127.0.0.1:{ports['ACCOUNT_MANAGER_PORT']}"
    data = {f"{name.upper()}_DATA_DIR": str(folder / name) for name in ("postgres", "redis", "rabbitmq")}
    passwords = {f"{name}_PASSWORD": os.urandom(16).hex() for name in ("POSTGRES", "REDIS", "RABBITMQ")}
    return {
        **ports,
        **data,
        **passwords,
        "ENVIRONMENT": "production",
        "CHAINS": json.dumps([chain]),
        "SIWE_DOMAIN": where,
        "SIWE_URI": f"http://{where}",
        "JWT_SEED": os.urandom(32).hex(),
        "CREDENTIALS_KEY": os.urandom(32).hex(),
        # The chain is minutes old: no pool remembers a mean to compare with.
        "TRADE_PRICE_CHECK": "off",
        "OPERATOR_PRIVATE_KEY": "0x" + account(OPERATOR).key.hex().removeprefix("0x"),
    }


class Relay:
    """Lets containers reach a server that listens on loopback only: `address:port` here leads to it."""

    def __init__(self, address: str, target_port: int) -> None:
        self._target_port = target_port
        self._server = create_server((address, 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._accept, name="relay", daemon=True).start()
        progress(f"relay {address}:{self.port} -> 127.0.0.1:{target_port}")

    def close(self) -> None:
        """Take no more connections."""
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._join, args=(client,), daemon=True).start()

    def _join(self, client: socket) -> None:
        """A server that hangs takes no connections either: only this one client is told so."""
        try:
            target = create_connection(("127.0.0.1", self._target_port))
        except OSError:
            client.close()
            return
        threading.Thread(target=_copy, args=(target, client), daemon=True).start()
        _copy(client, target)


def _copy(source: socket, sink: socket) -> None:
    try:
        while chunk := source.recv(65_536):
            sink.sendall(chunk)
    except OSError:
        pass
    finally:
        sink.close()
        source.close()
