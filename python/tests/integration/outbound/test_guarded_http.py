"""The guarded client against a real server that must not be reached, or must."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Sequence
from functools import partialmethod
from ipaddress import ip_network
from typing import Any
from uuid import uuid4

import httpx
import pytest
from aiohttp import web

from bench.hostile_addresses import FORMS
from tests.integration.local_server import Handler, LocalServer
from tradingflow.core.errors import DependencyUnavailable, InvalidInput, Refused, TradingFlowError
from tradingflow.outbound.client import GuardedHttp

LOOPBACK = ip_network("127.0.0.1/32")


class CountingListener:
    """Counts connections to the loopback interface, on IPv4 and where there is one on IPv6."""

    def __init__(self) -> None:
        self.connections = 0
        self.port = 0

    def came(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        writer.close()


@pytest.fixture
async def listener() -> AsyncIterator[CountingListener]:
    counting = CountingListener()
    server = await asyncio.start_server(counting.came, "0.0.0.0", 0)
    counting.port = server.sockets[0].getsockname()[1]
    yield counting
    server.close()
    await server.wait_closed()


@pytest.fixture
async def http() -> AsyncIterator[GuardedHttp]:
    client = GuardedHttp()
    yield client
    await client.close()


@pytest.fixture
async def local() -> AsyncIterator[GuardedHttp]:
    """A client an operator allowed one network more."""
    client = GuardedHttp(allowed=[LOOPBACK])
    yield client
    await client.close()


def test_there_are_sixty_forms() -> None:
    assert len(set(FORMS)) >= 60


@pytest.mark.parametrize("form", FORMS)
async def test_no_form_of_an_inner_address_is_connected_to(
    http: GuardedHttp, listener: CountingListener, form: str
) -> None:
    with pytest.raises(TradingFlowError):
        await http.request("GET", form.format(p=listener.port), timeout_s=3)
    assert listener.connections == 0


async def test_the_listener_is_seen_when_it_is_allowed(local: GuardedHttp, listener: CountingListener) -> None:
    with pytest.raises(DependencyUnavailable):
        await local.request("GET", f"http://127.0.0.1:{listener.port}/")
    assert listener.connections == 1


async def test_a_name_is_resolved_once_so_a_second_answer_changes_nothing(server: LocalServer) -> None:
    answers = iter([["127.0.0.1"], ["10.0.0.1"]])

    async def rebinding(_: str, __: int) -> Sequence[str]:
        return next(answers)

    client = GuardedHttp(allowed=[LOOPBACK], resolve=rebinding)
    response = await client.request("GET", server.url(host="rebind.example"))
    await client.close()
    assert response.status == 200
    assert server.asked[0].headers["host"] == f"rebind.example:{server.port}"
    assert next(answers) == ["10.0.0.1"]


async def test_names_nobody_answers_for_do_not_keep_other_names_waiting(
    http: GuardedHttp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connections to PostgreSQL, RabbitMQ and the chains are by name too."""
    loop, begun, over = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
    getaddrinfo = socket.getaddrinfo

    def silent(host: Any, *asked: Any, **named: Any) -> Any:
        if str(host).endswith("silent.example"):
            loop.call_soon_threadsafe(begun.set)
            over.wait()
            raise OSError
        return getaddrinfo(host, *asked, **named)

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    # More than the event loop has threads of its own.
    hosts = [f"http://{n}.silent.example/" for n in range(50)]
    asking = [asyncio.create_task(http.request("GET", url, timeout_s=60)) for url in hosts]
    try:
        await begun.wait()
        async with asyncio.timeout(20):
            assert await loop.getaddrinfo("127.0.0.1", 5432)
    finally:
        over.set()
        failed = await asyncio.gather(*asking, return_exceptions=True)
    assert {type(failure) for failure in failed} == {DependencyUnavailable}


async def test_a_name_that_turns_inside_between_two_requests_is_refused_at_the_second(server: LocalServer) -> None:
    answers = iter([["127.0.0.1"], ["10.0.0.1"]])

    async def rebinding(_: str, __: int) -> Sequence[str]:
        return next(answers)

    client = GuardedHttp(allowed=[LOOPBACK], resolve=rebinding)
    await client.request("GET", server.url(host="rebind.example"))
    with pytest.raises(Refused, match="address_forbidden"):
        await client.request("GET", server.url(host="rebind.example"))
    await client.close()
    assert len(server.asked) == 1


@pytest.mark.parametrize("mixed", [["127.0.0.1", "10.0.0.1"], ["127.0.0.1", "::1"], ["127.0.0.1", "169.254.169.254"]])
async def test_one_inner_address_among_several_spoils_them_all(server: LocalServer, mixed: list[str]) -> None:
    async def resolve(_: str, __: int) -> Sequence[str]:
        return mixed

    client = GuardedHttp(allowed=[LOOPBACK], resolve=resolve)
    with pytest.raises(Refused, match="address_forbidden"):
        await client.request("GET", server.url(host="mixed.example"))
    await client.close()
    assert server.asked == []


@pytest.mark.parametrize(
    "form", ["http://127.0.0.2:{p}/", "http://[::1]:{p}/", "http://0x7f.2:{p}/", "file:///etc/passwd"]
)
async def test_a_redirect_inside_is_not_followed(
    local: GuardedHttp, server: LocalServer, listener: CountingListener, form: str
) -> None:
    async def away(_: web.Request) -> web.Response:
        return web.Response(status=302, headers={"location": form.format(p=listener.port)})

    server.answer = away
    with pytest.raises(TradingFlowError):
        await local.request("GET", server.url())
    assert (len(server.asked), listener.connections) == (1, 0)


async def test_a_chain_of_redirects_is_followed_to_its_end_and_no_longer_than_five(
    local: GuardedHttp, server: LocalServer
) -> None:
    async def count_down(request: web.Request) -> web.Response:
        left = int(request.path.strip("/"))
        return web.Response(status=302, headers={"location": f"/{left - 1}"}) if left else web.Response(text="there")

    server.answer = count_down
    assert (await local.request("GET", server.url("/5"))).body == b"there"
    with pytest.raises(DependencyUnavailable, match="http_redirects"):
        await local.request("GET", server.url("/6"))


async def test_credentials_do_not_follow_a_redirect_to_another_origin(server: LocalServer) -> None:
    async def loopback(_: str, __: int) -> Sequence[str]:
        return ["127.0.0.1"]

    async def away(request: web.Request) -> web.Response:
        there = server.url("/there", host="other.example")
        return (
            web.Response(text="ok")
            if request.path == "/there"
            else web.Response(status=307, headers={"location": there})
        )

    server.answer = away
    client = GuardedHttp(allowed=[LOOPBACK], resolve=loopback)
    headers = {"Authorization": "Bearer x", "X-Api-Key": "x", "Accept": "text/plain"}
    await client.request("GET", server.url(host="one.example"), headers=headers)
    await client.close()
    assert {"authorization", "x-api-key"}.isdisjoint(name.lower() for name in server.asked[1].headers)
    assert server.asked[1].headers["accept"] == "text/plain"


async def test_a_post_met_by_303_becomes_a_get_without_its_body(local: GuardedHttp, server: LocalServer) -> None:
    async def see_other(request: web.Request) -> web.Response:
        return (
            web.Response(text="ok")
            if request.path == "/there"
            else web.Response(status=303, headers={"location": "/there"})
        )

    server.answer = see_other
    await local.request("POST", server.url(), content=b"secret")
    assert (server.asked[1].method, server.bodies[1]) == ("GET", b"")


async def test_a_body_that_is_too_large_is_cut_off(local: GuardedHttp, server: LocalServer) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65_536)
        except ConnectionError:
            return response

    server.answer = endless
    with pytest.raises(DependencyUnavailable, match="http_too_large"):
        await local.request("GET", server.url(), max_body_bytes=200_000)


async def test_a_compressed_answer_is_refused_for_what_it_may_unpack_to(
    local: GuardedHttp, server: LocalServer
) -> None:
    async def compressed(_: web.Request) -> web.Response:
        return web.Response(body=b"\x1f\x8b", headers={"content-encoding": "gzip"})

    server.answer = compressed
    with pytest.raises(DependencyUnavailable, match="http_encoding"):
        await local.request("GET", server.url())
    assert server.asked[0].headers["accept-encoding"] == "identity"


async def test_a_server_that_does_not_answer_is_given_up(local: GuardedHttp, server: LocalServer) -> None:
    waiting = asyncio.Event()

    async def silent(_: web.Request) -> web.Response:
        await waiting.wait()
        return web.Response()

    server.answer = silent
    with pytest.raises(DependencyUnavailable, match="http_timeout"):
        await local.request("GET", server.url("/path?token=secret"), timeout_s=0.2)
    waiting.set()


async def test_an_owner_whose_servers_never_answer_leaves_turns_to_others(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tradingflow.outbound.client.MAX_AT_ONCE", 4)
    monkeypatch.setattr("tradingflow.outbound.client.MAX_OF_OWNER", 2)
    stuck, over = asyncio.Event(), asyncio.Event()

    async def tarpit(request: web.Request) -> web.Response:
        if request.path == "/tarpit":
            stuck.set()
            await over.wait()
        return web.Response(text="ok")

    server.answer = tarpit
    client = GuardedHttp(allowed=[LOOPBACK])
    one, other = client.for_owner(uuid4()), uuid4()
    asking = [asyncio.create_task(one.request("GET", server.url("/tarpit"), timeout_s=60)) for _ in range(10)]
    await stuck.wait()
    async with asyncio.timeout(20):
        assert (await client.for_owner(other).request("GET", server.url("/"))).status == 200
    over.set()
    assert {answer.status for answer in await asyncio.gather(*asking)} == {200}
    await client.close()


async def test_the_bound_begins_with_the_requests_turn(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tradingflow.outbound.client.MAX_AT_ONCE", 1)
    stuck, over = asyncio.Event(), asyncio.Event()

    async def slow(_: web.Request) -> web.Response:
        stuck.set()
        await over.wait()
        return web.Response(text="ok")

    server.answer = slow
    client = GuardedHttp(allowed=[LOOPBACK])
    first = asyncio.create_task(client.request("GET", server.url(), timeout_s=60))
    await stuck.wait()
    waiting = asyncio.create_task(client.request("GET", server.url(), timeout_s=0))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not waiting.done()
    over.set()
    assert (await first).status == 200
    with pytest.raises(DependencyUnavailable, match="http_timeout"):
        await waiting
    await client.close()


async def test_the_callers_bound_is_the_only_one(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """httpx brings bounds of 5 s; shortened here, so that an answer after them comes soon."""
    monkeypatch.setattr(httpx.AsyncClient, "__init__", partialmethod(httpx.AsyncClient.__init__, timeout=0.05))

    async def late(_: web.Request) -> web.Response:
        await asyncio.sleep(0.5)
        return web.Response(text="late")

    server.answer = late
    client = GuardedHttp(allowed=[LOOPBACK])
    assert (await client.request("GET", server.url(), timeout_s=60)).body == b"late"
    await client.close()


async def _drip(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b".")
        await asyncio.sleep(0.01)


async def _in_circles(_: web.Request) -> web.Response:
    await asyncio.sleep(0.15)
    return web.Response(status=302, headers={"location": "/"})


@pytest.mark.parametrize("answer", [_drip, _in_circles])
async def test_the_bound_holds_for_the_whole_of_a_call(
    local: GuardedHttp, server: LocalServer, answer: Handler
) -> None:
    """For a body that never ends, and for redirects each of which is in time."""
    server.answer = answer
    with pytest.raises(DependencyUnavailable, match="http_timeout"):
        await local.request("GET", server.url(), timeout_s=0.3)


async def test_the_bound_holds_for_a_handshake_and_leaves_no_connection_behind(local: GuardedHttp) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        with pytest.raises(DependencyUnavailable, match="http_timeout"):
            await local.request("GET", f"https://127.0.0.1:{mute.getsockname()[1]}/", timeout_s=0.2)
        connection, _ = mute.accept()
    with connection:
        connection.settimeout(10)
        while await asyncio.to_thread(connection.recv, 4096):
            pass


async def test_an_error_names_the_host_and_not_what_may_hold_a_token(local: GuardedHttp) -> None:
    with pytest.raises(DependencyUnavailable) as failed:
        await local.request("GET", "http://127.0.0.1:1027/bot123:secret/send?key=secret")
    assert "127.0.0.1" in str(failed.value)
    assert "secret" not in str(failed.value)


@pytest.mark.parametrize("headers", [{"Host": "x"}, {"Content-Length": "0"}, {"X": "a\r\nB: c"}, {"X y": "é"}])
async def test_a_header_that_would_change_the_request_is_refused(local: GuardedHttp, headers: dict[str, str]) -> None:
    with pytest.raises(InvalidInput, match="invalid_header"):
        await local.request("GET", "http://127.0.0.1:1027/", headers=headers)


@pytest.mark.parametrize("port", [22, 25, 6, 587, 995])
async def test_ports_of_other_services_are_refused(local: GuardedHttp, port: int) -> None:
    with pytest.raises(InvalidInput, match="not a web port"):
        await local.request("GET", f"http://127.0.0.1:{port}/")


async def test_a_proxy_of_the_environment_is_not_used(
    server: LocalServer, listener: CountingListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{listener.port}")
    client = GuardedHttp(allowed=[LOOPBACK])
    assert (await client.request("GET", server.url())).status == 200
    await client.close()
    assert listener.connections == 0
