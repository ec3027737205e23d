"""The real compose files with settings of their own, as one project or as two with separate networks."""

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from ipaddress import ip_network
from pathlib import Path
from socket import create_connection, create_server, socket

from bench.figure import progress
from devstack.anvil import CHAIN_ID
from devstack.errors import DevstackError
from devstack.main_job.accounts import OPERATOR, account
from devstack.main_job.deployment import Deployment
from devstack.ports import free_port

REPOSITORY = Path(__file__).resolve().parents[2]
DATA_FILE = "docker-compose-db-redis-mq.yml"
SERVICES_FILE = "docker-compose-account-and-worker.yml"
DATA_PORTS = ("POSTGRES_PORT", "REDIS_PORT", "RABBITMQ_PORT", "RABBITMQ_MANAGEMENT_PORT")
SERVICE_PORTS = ("ACCOUNT_MANAGER_PORT", "PY_WORKER_PORT", "MONITOR_PORT")
HEALTHY_TIMEOUT_S = 180
KEPT_ENVIRONMENT = frozenset({"PATH", "HOME", "DOCKER_HOST", "DOCKER_BUILDKIT", "COMPOSE_DOCKER_CLI_BUILD"})


class Project:
    """One `docker-compose -f … --env-file …`."""

    def __init__(self, name: str, files: Sequence[str], settings: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self._env_file = folder / f"{name}.env"
        everything = {**settings, "COMPOSE_PROJECT_NAME": name, "DOCKER_NETWORK": name}
        self._env_file.write_text("".join(f"{key}='{value}'\n" for key, value in everything.items()))
        self._command = [*compose_command(), "--env-file", str(self._env_file), "-p", name]
        self._command += [part for file in files for part in ("-f", file)]

    def run(self, *arguments: str) -> str:
        """The command's standard output; raises DevstackError with the end of what it said."""
        # The project's name and tags must come from the file, not from whoever started us.
        environment = {key: value for key, value in os.environ.items() if key in KEPT_ENVIRONMENT}
        done = subprocess.run(
            [*self._command, *arguments], cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise DevstackError(f"{' '.join(arguments)} of {self.name} failed\n{(done.stdout + done.stderr)[-4000:]}")
        return done.stdout

    def up(self, *options: str) -> float:
        """Start everything; how many seconds until all of it was healthy."""
        began = time.monotonic()
        try:
            self.run("up", "-d", *options)
        except DevstackError as problem:
            raise DevstackError(f"{problem}\n{self.run('logs', '--no-color', '--tail', '15')[-12000:]}") from problem
        self._wait_healthy()
        return time.monotonic() - began

    def down(self) -> float:
        """Stop and remove the containers; how many seconds that took."""
        began = time.monotonic()
        self.run("down", "--remove-orphans", "--timeout", "30")
        return time.monotonic() - began

    def _wait_healthy(self) -> None:
        script = [str(REPOSITORY / "python/scripts/wait_healthy.sh"), self.name]
        environment = os.environ | {"TIMEOUT_S": str(HEALTHY_TIMEOUT_S)}
        done = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise DevstackError(f"{done.stderr}\n{self.run('logs', '--tail', '30')[-8000:]}")


def compose_command() -> list[str]:
    """`docker-compose` where there is one, else `docker compose`; raises DevstackError when there is neither."""
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0:
        return ["docker", "compose"]
    raise DevstackError("no docker-compose here\n  what to do: install Docker with Compose")


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
                target = create_connection(("127.0.0.1", self._target_port))
            except OSError:
                return
            for source, sink in ((client, target), (target, client)):
                threading.Thread(target=_copy, args=(source, sink), daemon=True).start()


def _copy(source: socket, sink: socket) -> None:
    try:
        while chunk := source.recv(65_536):
            sink.sendall(chunk)
    except OSError:
        pass
    finally:
        sink.close()
        source.close()
