"""`make run` below the services: three data services, supervised, found again by `make stop`."""

import os
import signal
from dataclasses import asdict
from pathlib import Path

import pytest
from redis import Redis

from devstack import control
from devstack.data_services import DataUrls, GivenServices, NativeServices
from devstack.errors import DevstackError
from devstack.ports import Ports, free_port
from devstack.run_lock import only_run
from devstack.stack import chosen_kind
from tests.waiting import eventually

LOOPBACK_ADDRESSES = {"0100007F", "00000000000000000000000001000000"}  # 127.0.0.1, and ::1 of the port mapper


def private_ports() -> Ports:
    return Ports(
        postgres=free_port(),
        redis=free_port(),
        rabbitmq=free_port(),
        rabbitmq_management=free_port(),
        rabbitmq_distribution=free_port(),
        rabbitmq_epmd=free_port(),
    )


def listening_addresses(ports: Ports) -> set[str]:
    """The addresses, as the kernel writes them in hex, on which the data servers listen."""
    wanted = {number for name, number in asdict(ports).items() if name.startswith(("postgres", "redis", "rabbitmq"))}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            address, _, state = line.split()[1:4]
            if state == "0A" and int(address.split(":")[1], 16) in wanted:
                found.add(address.split(":")[0])
    return found


def test_each_data_server_comes_back_with_its_data_after_kill_9(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []
    ports = private_ports()
    services = NativeServices(tmp_path / ".local", ports, said.append)
    urls = services.start()
    try:
        assert listening_addresses(ports) <= LOOPBACK_ADDRESSES
        services.postgres.execute("CREATE TABLE kept (n int)", database="tradingflow")
        services.rabbitmq.create_virtual_host("kept")
        with Redis.from_url(urls.redis) as client:
            client.set("kept", "1")
        for server in (services.postgres, services.redis, services.rabbitmq):
            before = server.pid
            assert before is not None
            os.kill(before, signal.SIGKILL)
            assert eventually(lambda server=server, before=before: server.pid not in {None, before})  # type: ignore[misc]
            assert eventually(server.is_ready, timeout_s=90)
        services.postgres.execute("INSERT INTO kept VALUES (1)", database="tradingflow")
        with Redis.from_url(urls.redis, decode_responses=True) as client:
            assert client.get("kept") == "1"
        services.rabbitmq.delete_virtual_host("kept")
        assert control.status(tmp_path) == 0
        assert services.postgres.password not in capsys.readouterr().out
    finally:
        assert services.stop() == []
    assert control.status(tmp_path) == 3


def test_make_stop_ends_servers_whose_make_run_is_gone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from devstack.redis import RedisServer

    left = RedisServer(tmp_path / ".local" / "redis", free_port())
    left.start()
    assert control.stop(tmp_path) == 0
    assert not left.is_alive
    assert "redis (pid" in capsys.readouterr().out


def test_a_second_make_run_is_refused(tmp_path: Path) -> None:
    with (
        only_run(tmp_path),
        pytest.raises(DevstackError, match=f"running already .pid {os.getpid()}"),
        only_run(tmp_path),
    ):
        raise AssertionError
    with only_run(tmp_path):
        pass


def test_given_servers_that_do_not_answer_are_all_listed() -> None:
    port = free_port()
    urls = DataUrls(
        f"postgresql+asyncpg://u:secret@127.0.0.1:{port}/d",
        f"redis://:secret@127.0.0.1:{port}/0",
        f"amqp://u:secret@127.0.0.1:{port}/v",
    )
    with pytest.raises(DevstackError) as refused:
        GivenServices(urls).start()
    message = str(refused.value)
    assert message.count(f"127.0.0.1:{port}") == 3
    assert "secret" not in message


def test_an_unknown_way_to_have_the_data_services_is_refused() -> None:
    assert chosen_kind({"SERVICES": "env"}) == "env"
    with pytest.raises(DevstackError, match="allowed are native, docker, env"):
        chosen_kind({"SERVICES": "podman"})
