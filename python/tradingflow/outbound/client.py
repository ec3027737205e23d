"""The guarded HTTP client: resolve once, check, connect to that very address, and again for every redirect.

Errors name the host, never the path or the query, where people keep tokens.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from typing import Any
from uuid import UUID
from weakref import WeakValueDictionary

import httpx

from tradingflow.core.errors import DependencyUnavailable, InvalidInput, Refused
from tradingflow.outbound.addresses import Address, Network, is_public, looks_numeric, parse_literal

MAX_REDIRECTS = 5
MAX_AT_ONCE = 200
MAX_OF_OWNER = 20
MAX_RESOLVED_AT_ONCE = 100
REDIRECTS = frozenset({301, 302, 303, 307, 308})
# What may follow a redirect to somebody else; any other header might be a credential.
HARMLESS_HEADERS = frozenset({"accept", "accept-language", "content-type", "user-agent"})
# Set by the client itself: a caller's value could make two servers disagree on what a request is.
OWN_HEADERS = frozenset(
    {"host", "connection", "content-length", "transfer-encoding", "accept-encoding", "te", "upgrade"}
)
FIRST_FREE_PORT = 1024
WEB_PORTS = frozenset({80, 443})
DEFAULT_PORTS = {"http": 80, "https": 443}

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


@dataclass(frozen=True)
class HttpResponse:
    """An answer whose body was read whole, under the client's size limit. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str


@dataclass(frozen=True)
class Target:
    """Where one request goes: the URL as named, and the checked address to connect to."""

    url: httpx.URL
    address: Address

    @property
    def origin(self) -> tuple[str, str, int]:
        return self.url.scheme, self.url.host, _port(self.url)


def check_url(url: str) -> None:
    """Raises InvalidInput for a URL no request will ever go to, whatever its host resolves to."""
    host = _host_of(url)
    address = parse_literal(host)
    if (address is None and looks_numeric(host)) or not host:
        raise InvalidInput("invalid_url", f"{host} is neither a name nor an address in its usual form")


class SystemResolver:
    """The system's resolver, in threads of its own.

    Users name the hosts. In the event loop's threads, names nobody answers for would keep all else that is named
    waiting, the database among it.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(MAX_RESOLVED_AT_ONCE, thread_name_prefix="resolve")

    async def addresses(self, host: str, port: int) -> Sequence[str]:
        """All of them."""
        ask = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        return [str(entry[4][0]) for entry in found]

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


class GuardedHttp:
    """Talks to public addresses only, plus `allowed` networks an operator names. Close it when done."""

    def __init__(self, *, allowed: Sequence[Network] = (), resolve: Resolve | None = None) -> None:
        self._allowed = tuple(allowed)
        self._resolver = SystemResolver()
        self._resolve = resolve or self._resolver.addresses
        self._turns = asyncio.Semaphore(MAX_AT_ONCE)
        self._shares: WeakValueDictionary[UUID, asyncio.Semaphore] = WeakValueDictionary()
        # No connection is kept: a kept one to an address would be shared by all hosts that have it, with the
        # certificate of the first. No environment: a proxy would resolve names again, unchecked. No time-out of its
        # own: `request` bounds the whole of a call.
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(None),
            limits=httpx.Limits(max_connections=MAX_AT_ONCE, max_keepalive_connections=0),
            trust_env=False,
            follow_redirects=False,
            headers={"user-agent": "TradingFlow", "accept-encoding": "identity"},
        )

    async def close(self) -> None:
        self._resolver.close()
        await self._client.aclose()

    def for_owner(self, owner: UUID) -> OwnedHttp:
        """For requests of one user's flows; our own take their turns with everybody's."""
        return OwnedHttp(self, owner)

    def share(self, owner: UUID) -> asyncio.Semaphore:
        """An owner's turns. One of them is held for each request of theirs, also while that waits for its turn."""
        return self._shares.setdefault(owner, asyncio.Semaphore(MAX_OF_OWNER))

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        timeout_s: float = 10.0,
        max_body_bytes: int = 1_000_000,
        follow_redirects: bool = True,
    ) -> HttpResponse:
        """Raises InvalidInput for a URL that is none, Refused("address_forbidden") for one that leads inside,
        DependencyUnavailable when the server does not answer in `timeout_s` or sends more than `max_body_bytes`. That
        time begins with the request's turn: a wait behind others is not the server's fault."""
        sent = _Sent(method.upper(), _clean(headers or {}), content, max_body_bytes)
        host = _host_of(url)
        try:
            async with self._turns, asyncio.timeout(timeout_s):
                return await self._follow(sent, url, follow_redirects)
        except TimeoutError as error:
            raise DependencyUnavailable("http_timeout", f"{host} did not answer within {timeout_s:g} s") from error
        except httpx.HTTPError as error:
            raise DependencyUnavailable("http_unreachable", f"{host} failed: {type(error).__name__}") from error

    async def _follow(self, sent: _Sent, url: str, follow_redirects: bool) -> HttpResponse:
        target = await self._check(url)
        for _ in range(MAX_REDIRECTS + 1):
            response = await self._send(sent, target)
            location = response.headers.get("location")
            if not (follow_redirects and response.status in REDIRECTS and location):
                return response
            following = await self._check(str(target.url.join(location)))
            sent = sent.redirected(response.status, same_origin=following.origin == target.origin)
            target = following
        raise DependencyUnavailable("http_redirects", f"{target.url.host} redirects more than {MAX_REDIRECTS} times")

    async def _check(self, url: str) -> Target:
        """Resolve once and check every answer: one that leads inside spoils them all."""
        parsed = _parse(url)
        literal = parse_literal(parsed.host)
        if literal is None and looks_numeric(parsed.host):
            raise InvalidInput("invalid_url", f"{parsed.host} is neither a name nor an address in its usual form")
        addresses = [literal] if literal is not None else await self._addresses(parsed)
        if not all(self._is_allowed(address) for address in addresses):
            raise Refused("address_forbidden", f"{parsed.host} is not a public address")
        return Target(parsed, addresses[0])

    async def _addresses(self, url: httpx.URL) -> Sequence[Address]:
        try:
            found = await self._resolve(url.raw_host.decode("ascii"), _port(url))
            addresses = [ip_address(text) for text in found]
        except (OSError, UnicodeError, ValueError) as error:
            raise DependencyUnavailable("http_unreachable", f"{url.host} has no address") from error
        if not addresses:
            raise DependencyUnavailable("http_unreachable", f"{url.host} has no address")
        return addresses

    def _is_allowed(self, address: Address) -> bool:
        return is_public(address) or any(address in network for network in self._allowed)

    async def _send(self, sent: _Sent, target: Target) -> HttpResponse:
        request = self._client.build_request(
            sent.method,
            target.url.copy_with(host=str(target.address)),
            headers={**sent.headers, "host": target.url.netloc.decode("ascii")},
            content=sent.content,
            extensions={"sni_hostname": target.url.raw_host.decode("ascii"), "trace": _closing_handshakes()},
        )
        response = await self._client.send(request, stream=True)
        try:
            body = await _read(response, sent.max_body_bytes, target.url.host)
        finally:
            await response.aclose()
        return HttpResponse(response.status_code, dict(response.headers), body, str(target.url))


@dataclass(frozen=True)
class OwnedHttp:
    """The client as one owner has it: whose server never answers has a share of the turns, and not all of them."""

    http: GuardedHttp
    owner: UUID

    async def request(self, method: str, url: str, **how: Any) -> HttpResponse:
        """As `GuardedHttp.request`."""
        async with self.http.share(self.owner):
            return await self.http.request(method, url, **how)


@dataclass(frozen=True)
class _Sent:
    method: str
    headers: Mapping[str, str]
    content: bytes | None
    max_body_bytes: int

    def redirected(self, status: int, *, same_origin: bool) -> _Sent:
        """As browsers do (RFC 9110 15.4): 303 and a POST met by 301 or 302 become GET; credentials stay at home."""
        headers = self.headers
        if not same_origin:
            headers = {name: value for name, value in headers.items() if name in HARMLESS_HEADERS}
        if status == 303 or (status in (301, 302) and self.method == "POST"):
            headers = {name: value for name, value in headers.items() if name != "content-type"}
            return _Sent("GET", headers, None, self.max_body_bytes)
        return _Sent(self.method, headers, self.content, self.max_body_bytes)


async def _read(response: httpx.Response, limit: int, host: str) -> bytes:
    """The body as sent; a compressed one is refused, since what it unpacks to has no limit."""
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise DependencyUnavailable("http_encoding", f"{host} compresses its answer though asked not to")
    chunks, size = [], 0
    async for chunk in response.aiter_raw():
        size += len(chunk)
        if size > limit:
            raise DependencyUnavailable("http_too_large", f"{host} sends more than {limit} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def _closing_handshakes() -> Callable[[str, Mapping[str, Any]], Awaitable[None]]:
    """For one request: a TLS handshake that is cut short closes its connection, which httpcore does for errors only."""
    connected: list[Any] = []

    async def trace(event: str, about: Mapping[str, Any]) -> None:
        if event == "connection.connect_tcp.complete":
            connected.append(about["return_value"])
        elif event == "connection.start_tls.failed":
            await connected.pop().aclose()

    return trace


def _clean(headers: Mapping[str, str]) -> dict[str, str]:
    lowered = {name.lower(): value for name, value in headers.items()}
    for name, value in lowered.items():
        if name in OWN_HEADERS:
            raise InvalidInput("invalid_header", f"the header {name} is set by the client")
        if not name.isascii() or not name.isprintable() or not value.isprintable() or not value.isascii():
            raise InvalidInput("invalid_header", f"the header {name!a} holds characters no header may hold")
    return lowered


def _parse(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError, UnicodeError) as error:
        raise InvalidInput("invalid_url", "the URL cannot be read") from error
    if parsed.scheme not in DEFAULT_PORTS or not parsed.host:
        raise InvalidInput("invalid_url", "a URL starts with http:// or https:// and names a host")
    if parsed.userinfo:
        raise InvalidInput("invalid_url", "a URL must not carry a user name or password; use a header")
    if (port := _port(parsed)) not in WEB_PORTS and port < FIRST_FREE_PORT:
        raise InvalidInput("invalid_url", f"port {port} is not a web port; allowed: 80, 443, and from 1024 up")
    return parsed


def _port(url: httpx.URL) -> int:
    return url.port or DEFAULT_PORTS[url.scheme]


def _host_of(url: str) -> str:
    return _parse(url).host
