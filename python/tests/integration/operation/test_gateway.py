"""HAProxy with the gateway's own configuration, in front of a server that says which client it was told of."""

import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from aiohttp import web

from devstack.ports import LOOPBACK, free_port
from tests.waiting import eventually

CONFIG = Path(__file__).resolve().parents[3] / "gateway" / "haproxy.cfg"
HAPROXY = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin") or "haproxy"
# What the image sets where no proxy is trusted.
NOBODY = "255.255.255.255"


@pytest.fixture
async def service() -> AsyncIterator[int]:
    """The port of a service that answers every path with the client's address as it was told."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=request.headers.get("X-Forwarded-For", "nobody"))

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, LOOPBACK, 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


@contextmanager
def gateway(folder: Path, service: int, trusted: str) -> Iterator[list[str]]:
    """The addresses of both front ends; the replicas Docker would name are `service`."""
    ports = [free_port(), free_port()]
    config = CONFIG.read_text()
    for published, port in zip((7000, 7001), ports, strict=True):
        config = config.replace(f"bind :{published}", f"bind {LOOPBACK}:{port}")
    for template in ("replica 4 account-manager:7000", "replica 20 py-worker:7001"):
        config = config.replace(f"server-template {template}", f"server replica {LOOPBACK}:{service}")
    file = folder / "haproxy.cfg"
    file.write_text(config)
    with subprocess.Popen([HAPROXY, "-db", "-f", file], env={"TRUSTED_PROXIES": trusted}) as process:
        try:
            assert eventually(lambda: all(map(_listens, ports)))
            yield [f"http://{LOOPBACK}:{port}" for port in ports]
        finally:
            process.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex((LOOPBACK, port)) == 0


@pytest.mark.parametrize(
    ("trusted", "claimed", "told"),
    [
        (NOBODY, None, "127.0.0.1"),
        (NOBODY, "6.6.6.6", "127.0.0.1"),
        ("10.0.0.0/8 192.168.0.0/16", "6.6.6.6", "127.0.0.1"),
        ("10.0.0.0/8 127.0.0.0/8", "9.9.9.9", "9.9.9.9"),
        ("127.0.0.1", "6.6.6.6, 9.9.9.9", "9.9.9.9"),
        ("127.0.0.1", "2001:db8::1", "2001:db8::1"),
        ("127.0.0.1", "unknown", "127.0.0.1"),
        ("127.0.0.1", None, "127.0.0.1"),
    ],
)
async def test_a_client_is_who_connected_or_whom_a_proxy_of_ours_saw(
    tmp_path: Path, service: int, trusted: str, claimed: str | None, told: str
) -> None:
    headers = {} if claimed is None else {"X-Forwarded-For": claimed}
    with gateway(tmp_path, service, trusted) as urls:
        async with httpx.AsyncClient(headers=headers) as client:
            answers = [await client.get(f"{url}/session") for url in urls]
    assert [answer.text for answer in answers] == [told, told]


@pytest.mark.parametrize("path", ["/metrics", "/%6detrics", "//metrics", "/metrics/"])
async def test_measurements_are_for_who_asks_directly(tmp_path: Path, service: int, path: str) -> None:
    with gateway(tmp_path, service, NOBODY) as urls:
        async with httpx.AsyncClient() as client:
            direct = [await client.get(f"{url}{path}") for url in urls]
            forwarded = [await client.get(f"{url}{path}", headers={"X-Forwarded-For": "9.9.9.9"}) for url in urls]
    assert [answer.status_code for answer in direct] == [200, 200]
    assert [answer.status_code for answer in forwarded] == [404, 404]
