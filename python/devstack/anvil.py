"""A private Ethereum chain: anvil, the version pinned in contracts/package-lock.json."""

import http.client
import json
import os
import platform
import threading
import time
from pathlib import Path
from typing import Any

from devstack.errors import DevstackError, ServerMissing
from devstack.ports import LOOPBACK
from devstack.server import Server

CHAIN_ID = 31337
# The development phrase every Ethereum tool knows: its accounts hold play money and nothing else.
MNEMONIC = "test test test test test test test test test test test junk"
ACCOUNTS = 20
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


class Anvil(Server):
    """A chain that mines a block with every transaction, or every `block_time_s` seconds.

    With `persistent` the chain is written every second and at a graceful stop, and read at the next start; a
    kill loses what was mined since the last write, as a reorg would. Balances and storage of blocks mined
    before a restart can no longer be asked for; blocks, transactions and logs can.
    """

    name = "anvil"
    ready_timeout_s = 30
    advice = "read the whole log; a damaged chain is dropped by `make clean`"

    def __init__(
        self,
        data_dir: Path,
        port: int,
        *,
        repository: Path,
        block_time_s: float | None = None,
        persistent: bool = True,
    ) -> None:
        super().__init__(data_dir, port)
        self._repository = repository
        self._block_time_s = block_time_s
        self._state = StateFile(self.data_dir) if persistent else None

    @property
    def url(self) -> str:
        """Its JSON-RPC endpoint."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def shown_url(self) -> str:
        """The same; it holds no secret."""
        return self.url

    def rpc(self, method: str, *params: object) -> Any:
        """The result of one JSON-RPC call; raises DevstackError when the node refuses it."""
        request = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=30)
        try:
            connection.request("POST", "/", request, {"Content-Type": "application/json"})
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        if "error" in answer:
            raise DevstackError(f"anvil refused {method}: {answer['error'].get('message')}")
        return answer["result"]

    def is_ready(self) -> bool:
        """Whether it answers with our chain id."""
        try:
            return bool(self.rpc("eth_chainId") == hex(CHAIN_ID))
        except (OSError, http.client.HTTPException, ValueError):
            return False

    def start(self) -> None:
        """As for every server; with `persistent` it goes on from the last complete state."""
        super().start()
        if self._state is not None:
            self._state.guard_while(self)

    def _prepare(self) -> None:
        anvil_program(self._repository)
        if self._state is not None:
            self._state.repair()

    def _launch(self) -> None:
        command = [str(anvil_program(self._repository)), "--quiet", f"--host={LOOPBACK}", f"--port={self.port}"]
        command += [f"--chain-id={CHAIN_ID}", f"--mnemonic={MNEMONIC}", f"--accounts={ACCOUNTS}"]
        command.append(f"--cache-path={self.data_dir / 'cache'}")
        if self._block_time_s is not None:
            command.append(f"--block-time={self._block_time_s}")
        if self._state is not None:
            command += [f"--state={self._state.file}", "--state-interval=1"]
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("ANVIL_", "FOUNDRY_"))}
        self.daemon.spawn(command, env=environment, cwd=self.data_dir)


class StateFile:
    """The file anvil writes its chain to, and a copy of its last complete version.

    Anvil rewrites the file in place, so a kill in that moment leaves half of it, which anvil refuses to read.
    """

    COPY_INTERVAL_S = 2.0

    def __init__(self, data_dir: Path) -> None:
        self.file = data_dir / "state.json"
        self._copy = data_dir / "state.complete.json"
        self._copied_at_ns = 0
        # The guard of the process before may still copy when the next one's begins.
        self._copying = threading.Lock()

    def repair(self) -> None:
        """Put the copy back when the file is damaged."""
        if self.file.exists() and not self._is_complete(self.file.read_bytes()):
            self.file.unlink()
            if self._copy.exists():
                self._copy.replace(self.file)

    def keep_copy(self) -> None:
        """Copy the file when it changed and is complete."""
        with self._copying:
            self._keep_copy()

    def _keep_copy(self) -> None:
        if not self.file.exists() or self.file.stat().st_mtime_ns == self._copied_at_ns:
            return
        changed_at_ns = self.file.stat().st_mtime_ns
        content = self.file.read_bytes()
        if self._is_complete(content):
            draft = self._copy.with_suffix(".new")
            draft.write_bytes(content)
            draft.replace(self._copy)
            self._copied_at_ns = changed_at_ns

    def guard_while(self, server: Server) -> None:
        """Keep the copy fresh in the background until the server's present process ends."""
        pid = server.pid

        def guard() -> None:
            while server.pid == pid:
                self.keep_copy()
                time.sleep(self.COPY_INTERVAL_S)

        threading.Thread(target=guard, name="anvil-state", daemon=True).start()

    @staticmethod
    def _is_complete(content: bytes) -> bool:
        try:
            json.loads(content)
        except ValueError:
            return False
        return True


def anvil_program(repository: Path) -> Path:
    """The pinned anvil of this machine's architecture; raises ServerMissing."""
    architecture = MACHINES.get(platform.machine(), platform.machine())
    program = repository / f"contracts/node_modules/@foundry-rs/anvil-linux-{architecture}/bin/anvil"
    if not program.exists():
        raise ServerMissing(f"anvil for {architecture} is not installed\n  what to do: cd contracts && npm ci")
    return program
