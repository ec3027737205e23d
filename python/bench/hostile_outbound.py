"""Every node that takes an address, given addresses inside, names that turn inside, and redirects that lead there.

An audit hook sees each connection this process tries, whatever library tries it.
"""

import json
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address, ip_network
from typing import Any

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bench.figure import Figures, progress
from bench.hostile_addresses import FORMS
from tradingflow.core.errors import TradingFlowError
from tradingflow.outbound.addresses import is_public
from tradingflow.outbound.client import GuardedHttp
from tradingflow.py_worker.kit import SecretRef, node_types
from tradingflow.py_worker.kit.registry import AnyNode
from tradingflow.py_worker.kit.testing import MemoryContext

URL_FIELDS = ("url", "base_url", "api_url", "feed_url", "endpoint")
SHEET = {"storage": "google_sheets", "spreadsheet": "x" * 44, "credentials": {"$secret": "account"}}
# What a node needs besides, for an address to be used.
BESIDES: dict[tuple[str, str], dict[str, Any]] = {
    ("dataset_input_node", "url"): {"storage": "json"},
    ("dataset_output_node", "url"): {"storage": "json", "mode": "write"},
    ("dataset_node", "url"): {"storage": "json"},
    ("dataset_input_node", "api_url"): SHEET,
    ("dataset_output_node", "api_url"): SHEET,
    ("dataset_node", "api_url"): SHEET,
}
NOT_WITH = {("dataset_output_node", "url"): ("keep_rows",), ("dataset_output_node", "api_url"): ("keep_rows",)}
INPUTS: dict[str, Any] = {"data": 1, "message": "x"}
TURNS_INSIDE = ["10.0.0.1", "169.254.169.254", "127.0.0.2", "::1", "::ffff:10.0.0.1", "64:ff9b::a00:1"]


class Connections:
    """Addresses this process tried to connect to."""

    def __init__(self) -> None:
        self.tried: list[tuple[str, int]] = []
        self._on = False
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._on and event == "socket.connect" and isinstance(arguments[1], tuple):
            self.tried.append((str(arguments[1][0]), int(arguments[1][1])))

    def watch(self) -> None:
        self.tried, self._on = [], True

    def forbidden(self, allowed: tuple[str, int] | None = None) -> list[tuple[str, int]]:
        return [to for to in self.tried if to != allowed and not is_public(ip_address(to[0].partition("%")[0]))]


class AccountOrWord:
    """Secrets: a service account whose tokens come from the address under test, and a word for all else."""

    _key = rsa.generate_private_key(65_537, 2048)
    _pem = _key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    def __init__(self, address: str) -> None:
        self._address = address

    async def reveal(self, reference: SecretRef) -> str:
        if reference.name != "account":
            return "word"
        return json.dumps({"client_email": "a@b.c", "private_key": self._pem, "token_uri": self._address})

    def conceal(self, reference: SecretRef, value: str) -> None:
        """Nothing is kept here."""


def takers() -> Iterator[tuple[AnyNode, str]]:
    """Every node with every field that takes an address."""
    for node in {node.type: node for node in node_types().values()}.values():
        yield from ((node, field) for field in URL_FIELDS if field in node.Params.model_fields)


async def run(node: AnyNode, field: str, address: str, http: GuardedHttp) -> bool:
    """Whether the node got an answer."""
    place = (node.type, field)
    example = {name: value for name, value in node.example.items() if name not in NOT_WITH.get(place, ())}
    config = {**example, **BESIDES.get(place, {}), field: address}
    inputs = {name: value for name, value in INPUTS.items() if name in node.input_handles()}
    try:
        await node.execute(MemoryContext(http=http, secrets=AccountOrWord(address)), config, inputs)
    except TradingFlowError:
        return False
    return True


async def show_outbound(figures: Figures) -> None:
    """Addresses as written; then names and redirects. Nobody may be connected to but the one server allowed."""
    connections, found = Connections(), list(takers())
    progress(f"{len(FORMS)} forms of address, {len(found)} fields of {len({n.type for n, _ in found})} nodes")
    control = await _control(connections, found)
    figures.show("outbound_control_connections", control, "fields", target=f"== {len(found)}", ok=control == len(found))
    figures.show("outbound_forms", len(FORMS), "forms", target=">= 60", ok=len(FORMS) >= 60, fields=len(found))
    for name, reached in (
        ("outbound_forms_connected", await _forms(connections, found)),
        ("outbound_rebinding_connected", await _rebinding(connections, found)),
        ("outbound_redirects_connected", await _redirects(connections, found)),
    ):
        figures.show(name, len(reached), "connections", target="== 0", ok=not reached, reached=reached[:5])


async def _control(connections: Connections, found: Sequence[tuple[AnyNode, str]]) -> int:
    """With loopback allowed each of them does connect: the hook sees it."""
    seen = 0
    async with _server(None) as port:
        http = GuardedHttp(allowed=[ip_network("127.0.0.1/32")])
        for node, field in found:
            connections.watch()
            await run(node, field, f"http://127.0.0.1:{port}/", http)
            seen += ("127.0.0.1", port) in connections.tried
        await http.close()
    return seen


async def _this_machine(host: str, _: int) -> Sequence[str]:
    """Names as /etc/hosts may have them; nobody outside is asked."""
    if "localhost" not in host:
        raise OSError("no such name")
    return ["127.0.0.1", "::1"]


async def _forms(connections: Connections, found: Sequence[tuple[AnyNode, str]]) -> list[Any]:
    http = GuardedHttp(resolve=_this_machine)
    connections.watch()
    async with _server(None) as port:
        for node, field in found:
            for form in FORMS:
                await run(node, field, form.format(p=port), http)
    await http.close()
    return connections.forbidden()


async def _rebinding(connections: Connections, found: Sequence[tuple[AnyNode, str]]) -> list[Any]:
    """A name that is the allowed server at first and an address inside at every look-up after that."""
    connections.watch()
    async with _server(None) as port:
        for node, field in found:
            for inside in TURNS_INSIDE:
                answers = iter([["127.0.0.1"]])

                async def resolve(
                    _: str, __: int, answers: Iterator[list[str]] = answers, inside: str = inside
                ) -> Sequence[str]:
                    return next(answers, [inside])

                http = GuardedHttp(allowed=[ip_network("127.0.0.1/32")], resolve=resolve)
                for _ in range(2):
                    await run(node, field, f"http://rebind.example:{port}/", http)
                await http.close()
    return connections.forbidden(("127.0.0.1", port))


async def _redirects(connections: Connections, found: Sequence[tuple[AnyNode, str]]) -> list[Any]:
    """Chains of one to four redirects by the allowed server, whose last one leads inside."""
    connections.watch()
    async with _server(FORMS) as port:
        http = GuardedHttp(allowed=[ip_network("127.0.0.1/32")], resolve=_this_machine)
        for node, field in found:
            for number in range(len(FORMS)):
                await run(node, field, f"http://127.0.0.1:{port}/hop/{number % 4}/{number}", http)
        await http.close()
    return connections.forbidden(("127.0.0.1", port))


@asynccontextmanager
async def _server(forms: Sequence[str] | None) -> AsyncIterator[int]:
    """Answers `{}`, or sends on: `/hop/N/M` N times to itself, then to form M."""

    async def answer(request: web.Request) -> web.Response:
        words = request.path.split("/")
        if forms is None or len(words) < 4 or words[1] != "hop":
            return web.json_response({})
        left, number = int(words[2]), int(words[3])
        to = f"/hop/{left - 1}/{number}" if left else forms[number].format(p=port)
        return web.Response(status=302, headers={"location": to.replace("\r", "%0d").replace("\n", "%0a")})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = int(runner.addresses[0][1])
    try:
        yield port
    finally:
        await runner.cleanup()
