"""EIP-4361 messages: a strict line parser and the checks that need no chain and no store. Pure.

Strict means that one meaning has one spelling: fields in the order of the standard, each at most once, ASCII only,
a checksummed address, no user info in the domain. What is not exactly so is refused, never repaired.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tradingflow.core.errors import InvalidInput, Unauthenticated
from tradingflow.core.evm import parse_address

MAX_MESSAGE_BYTES = 2048
# A wallet shows the message and a person reads it: as long as the nonce lives, and no longer.
MAX_AGE = timedelta(minutes=5)
# How far the signer's clock may run ahead of ours.
CLOCK_SKEW = timedelta(minutes=1)
STATEMENT = "Sign in to TradingFlow. This costs nothing and moves no funds."

_PREAMBLE = " wants you to sign in with your Ethereum account:"
_UNRESERVED = r"A-Za-z0-9\-._~"
_STATEMENT = re.compile(rf"[{_UNRESERVED}:/?#\[\]@!$&'()*+,;= ]+")
_URI = re.compile(rf"[A-Za-z][A-Za-z0-9+.\-]*:(?:[{_UNRESERVED}:/?#\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{{2}})+")
_REQUEST_ID = re.compile(rf"(?:[{_UNRESERVED}!$&'()*+,;=:@]|%[0-9A-Fa-f]{{2}})*")
_NONCE = re.compile(r"[A-Za-z0-9]{8,64}")
_CHAIN_ID = re.compile(r"[1-9][0-9]{0,17}")
_DATE_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:Z|[+-]\d{2}:\d{2})", re.ASCII)


@dataclass(frozen=True)
class SignInMessage:
    """The fields of one message. `origin` is the domain with its optional scheme in front, as it was written."""

    origin: str
    address: str
    statement: str | None
    uri: str
    chain_id: int
    nonce: str
    issued_at: datetime
    expiration_time: datetime | None
    not_before: datetime | None


@dataclass(frozen=True)
class Proof:
    """What a nonce was handed out for."""

    address: str
    chain_id: int
    purpose: str


@dataclass(frozen=True)
class Audience:
    """Whom messages must be meant for: our domain (host and port) and URI, exactly."""

    domain: str
    uri: str

    @property
    def origins(self) -> tuple[str, str]:
        scheme = self.uri.partition("://")[0]
        return self.domain, f"{scheme}://{self.domain}"


def parse(text: str) -> SignInMessage:
    """Read a message. Raises InvalidInput that names the line which is not as the standard says."""
    if not text.isascii() or len(text) > MAX_MESSAGE_BYTES:
        raise InvalidInput("invalid_message", f"a sign-in message is ASCII text of at most {MAX_MESSAGE_BYTES} bytes")
    if any(c < " " and c != "\n" for c in text) or "\x7f" in text:
        raise InvalidInput("invalid_message", "a sign-in message has no control characters but line feeds")
    lines = _Lines(text.split("\n"))
    origin, address, statement = _head(lines)
    message = SignInMessage(
        origin=origin,
        address=address,
        statement=statement,
        uri=_matching(_URI, lines.field("URI"), "URI"),
        chain_id=_version_and_chain(lines),
        nonce=_matching(_NONCE, lines.field("Nonce"), "Nonce"),
        issued_at=_moment(lines.field("Issued At"), "Issued At"),
        expiration_time=_optional_moment(lines, "Expiration Time"),
        not_before=_optional_moment(lines, "Not Before"),
    )
    _tail(lines)
    return message


def check(message: SignInMessage, audience: Audience, now: datetime) -> None:
    """Raises Unauthenticated when the message is for somebody else, or not for now."""
    if message.origin not in audience.origins:
        raise Unauthenticated("wrong_domain", f"the message must be for the domain {audience.domain}")
    if message.uri != audience.uri:
        raise Unauthenticated("wrong_uri", f"the message must be for the URI {audience.uri}")
    if not now - MAX_AGE <= message.issued_at <= now + CLOCK_SKEW:
        raise Unauthenticated("message_expired", "Issued At must lie within the last 5 minutes; ask for a new nonce")
    if message.expiration_time is not None and message.expiration_time <= now:
        raise Unauthenticated("message_expired", "the message's Expiration Time has passed")
    if message.not_before is not None and message.not_before > now:
        raise Unauthenticated("message_not_yet_valid", "the message's Not Before lies in the future")


def compose(
    audience: Audience, address: str, chain_id: int, nonce: str, issued_at: datetime, statement: str = STATEMENT
) -> str:
    """A message ready to be signed by `address` (EIP-55)."""
    return (
        f"{audience.domain}{_PREAMBLE}\n{address}\n\n{statement}\n\n"
        f"URI: {audience.uri}\nVersion: 1\nChain ID: {chain_id}\nNonce: {nonce}\n"
        f"Issued At: {issued_at.astimezone(UTC).strftime('%Y-%m-%dT%H:%M:%SZ')}"
    )


class _Lines:
    def __init__(self, lines: list[str]) -> None:
        self._lines = lines
        self._next = 0

    def take(self, what: str) -> str:
        if self._next >= len(self._lines):
            raise InvalidInput("invalid_message", f"the sign-in message ends before its {what}")
        self._next += 1
        return self._lines[self._next - 1]

    def field(self, name: str) -> str:
        line = self.take(f"{name} line")
        if not line.startswith(f"{name}: "):
            raise InvalidInput("invalid_message", f"line {self._next} of the sign-in message must be its {name}")
        return line[len(name) + 2 :]

    def optional_field(self, name: str) -> str | None:
        if self._next < len(self._lines) and self._lines[self._next].startswith(f"{name}: "):
            return self.field(name)
        return None

    def blank(self) -> None:
        if self.take("blank line") != "":
            raise InvalidInput("invalid_message", f"line {self._next} of the sign-in message must be blank")

    def rest(self) -> Iterator[str]:
        while self._next < len(self._lines):
            yield self.take("end")


def _head(lines: _Lines) -> tuple[str, str, str | None]:
    origin, preamble, after = lines.take("domain").partition(_PREAMBLE)
    if not origin or not preamble or after:
        raise InvalidInput("invalid_message", f"line 1 of the sign-in message must be `<domain>{_PREAMBLE}`")
    address = lines.take("address")
    if parse_address(address) != address:
        raise InvalidInput("invalid_message", "the address must be written with its EIP-55 checksum")
    lines.blank()
    statement = lines.take("statement")
    if statement == "":
        return origin, address, None
    _matching(_STATEMENT, statement, "statement")
    lines.blank()
    return origin, address, statement


def _version_and_chain(lines: _Lines) -> int:
    if lines.field("Version") != "1":
        raise InvalidInput("invalid_message", "the Version of a sign-in message is 1")
    return int(_matching(_CHAIN_ID, lines.field("Chain ID"), "Chain ID"))


def _tail(lines: _Lines) -> None:
    if (request_id := lines.optional_field("Request ID")) is not None:
        _matching(_REQUEST_ID, request_id, "Request ID")
    for number, line in enumerate(lines.rest()):
        if number == 0:
            if line != "Resources:":
                raise InvalidInput("invalid_message", f"the sign-in message has an unexpected line: {line[:40]!r}")
        elif not line.startswith("- ") or not _URI.fullmatch(line[2:]):
            raise InvalidInput("invalid_message", "each resource of a sign-in message is a line `- <URI>`")


def _matching(pattern: re.Pattern[str], text: str, name: str) -> str:
    if not pattern.fullmatch(text):
        raise InvalidInput("invalid_message", f"the {name} of the sign-in message is not well-formed (EIP-4361)")
    return text


def _moment(text: str, name: str) -> datetime:
    _matching(_DATE_TIME, text, name)
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidInput("invalid_message", f"the {name} of the sign-in message is not a time (RFC 3339)") from error


def _optional_moment(lines: _Lines, name: str) -> datetime | None:
    text = lines.optional_field(name)
    return None if text is None else _moment(text, name)
