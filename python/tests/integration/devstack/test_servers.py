"""The private servers keep their data over stop, kill and restart, and explain why they do not start."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from redis import Redis, RedisError

from devstack import postgres
from devstack.anvil import Anvil
from devstack.daemon import ProcessRecord, wait_until_gone
from devstack.errors import PortTaken, ServerFailed
from devstack.ports import LOOPBACK, can_listen, free_port
from devstack.postgres import PostgresServer
from devstack.rabbitmq import RabbitMQPorts, RabbitMQServer, epmd_program
from devstack.redis import RedisServer

REPOSITORY = Path(__file__).resolve().parents[4]


@pytest.fixture
def database_server(tmp_path: Path) -> Iterator[PostgresServer]:
    server = PostgresServer(tmp_path / "postgres", free_port())
    yield server
    server.stop()


def rows(server: PostgresServer) -> None:
    server.execute("INSERT INTO kept VALUES (1)", database="tradingflow")


def test_postgres_keeps_committed_rows_over_a_kill_and_a_restart(database_server: PostgresServer) -> None:
    database_server.start()
    database_server.execute("CREATE TABLE kept (n int)", database="tradingflow")
    for end in (database_server.kill, database_server.stop):
        end()
        assert not database_server.is_alive
        database_server.start()
        rows(database_server)


def test_postgres_lets_nobody_in_without_the_password(database_server: PostgresServer) -> None:
    database_server.start()
    (database_server.data_dir / "password").write_text("guessed")
    with pytest.raises(asyncpg.InvalidPasswordError):
        database_server.execute("SELECT 1")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to change the account")
def test_postgres_runs_without_root_below_a_folder_closed_to_others(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    server = PostgresServer(closed / "postgres", free_port())
    server.start()
    try:
        assert Path(f"/proc/{server.pid}").stat().st_uid != 0
        server.execute("SELECT 1")
    finally:
        server.stop()


def test_postgres_of_the_wheel_serves_where_the_machine_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = postgres._candidates()[-1]
    monkeypatch.setattr(postgres, "_candidates", lambda: [Path("/nowhere"), wheel])
    server = PostgresServer(tmp_path / "postgres", free_port(), durable=False)
    server.start()
    try:
        server.execute("SELECT gen_random_uuid()")
    finally:
        server.stop()


def test_a_server_that_cannot_start_quotes_its_log(database_server: PostgresServer) -> None:
    database_server.start()
    database_server.stop()
    (database_server.data_dir / "cluster" / "global" / "pg_control").unlink()
    with pytest.raises(ServerFailed, match=r"postgres ended while starting[\s\S]*pg_control[\s\S]*what to do"):
        database_server.start()


def test_a_server_whose_port_is_taken_does_not_start(database_server: PostgresServer, tmp_path: Path) -> None:
    database_server.start()
    second = RedisServer(tmp_path / "redis", database_server.port)
    with pytest.raises(PortTaken, match=rf"taken by pid {database_server.pid} [\s\S]*TRADINGFLOW_PORT_REDIS"):
        second.start()
    assert not second.is_alive


def test_redis_keeps_its_keys_over_a_restart_and_wants_the_password(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis", free_port())
    server.start()
    try:
        with Redis.from_url(server.url) as client:
            client.set("kept", "1")
        server.restart()
        with Redis.from_url(server.url, decode_responses=True) as client:
            assert client.get("kept") == "1"
        with Redis(port=server.port) as stranger, pytest.raises(RedisError, match=r"authenticat"):
            stranger.get("kept")
    finally:
        server.stop()


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Anvil]:
    server = Anvil(tmp_path / "anvil", free_port(), repository=REPOSITORY)
    server.start()
    yield server
    server.stop()


def test_the_chain_goes_on_after_a_restart(chain: Anvil) -> None:
    chain.rpc("anvil_mine", "0x5")
    mined = chain.rpc("eth_getBlockByNumber", "0x5", False)["hash"]
    chain.restart()
    assert chain.rpc("eth_getBlockByNumber", "0x5", False)["hash"] == mined


def test_the_chain_goes_on_from_its_last_complete_state_when_a_kill_tore_the_file(chain: Anvil) -> None:
    chain.rpc("anvil_mine", "0x5")
    chain.restart()
    assert chain._state is not None
    chain._state.keep_copy()
    chain.kill()
    whole = chain._state.file.read_bytes()
    chain._state.file.write_bytes(whole[: len(whole) // 2])
    chain.start()
    assert chain.rpc("eth_blockNumber") == "0x5"


def test_rabbitmq_outlives_its_port_mapper_and_leaves_none_behind(tmp_path: Path) -> None:
    ports = RabbitMQPorts(free_port(), free_port(), free_port(), free_port())
    broker = RabbitMQServer(tmp_path, ports)
    try:
        broker.start()
        port_mapper = ProcessRecord.read(tmp_path / "epmd")
        assert port_mapper is not None
        port_mapper.identity.send(signal.SIGKILL)
        wait_until_gone(port_mapper.identity, timeout_s=10)
        # What the broker itself does within a minute of losing its port mapper.
        subprocess.run([epmd_program(), "-daemon", "-address", LOOPBACK, "-port", str(ports.epmd)], check=True)
        broker.kill()
        broker.start()
        assert broker.is_ready()
    finally:
        broker.discard()
    assert can_listen(ports.epmd)
