"""Structured logs with redaction. Every service calls `configure_logging` once, first thing in its server."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

import structlog

from tradingflow.core.log_file import SharedLogFile, is_standard_output

REDACTED = "[redacted]"
_SECRET_KEYS = re.compile(
    r"(pass(word|wd|phrase)?|secret|token|api_?key|private_?key|signature|authorization|cookie|mnemonic|credential|seed_phrase)",
    re.IGNORECASE,
)
# Names that only look like secrets: an ERC-20 token's address is public.
_PUBLIC_KEYS = frozenset({"token_in", "token_out", "token_id", "token_address", "tokens", "token_symbol"})
_SECRET_VALUES = (
    re.compile(r"(?<=://)([^/\s:@]*):([^/\s@]+)(?=@)"),  # user:password in a URL
    re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]*"),  # JWT
    re.compile(r"(?i)\bbearer\s+[\w.~+/=-]+"),
    re.compile(r"\btf_[a-z]+_[\w-]{16,}"),  # our API keys
)


def redact_text(text: str) -> str:
    """Blank out URL passwords, bearer tokens, JWTs and API keys inside free text."""
    for pattern in _SECRET_VALUES:
        text = pattern.sub(REDACTED, text)
    return text


def redact(value: Any, key: str = "") -> Any:  # noqa: PLR0911 (one line a kind of value)
    """`value` with every secret replaced, at any depth. Keys decide first, then what values look like."""
    if key and key not in _PUBLIC_KEYS and _SECRET_KEYS.search(key):
        return REDACTED
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if isinstance(value, Mapping):
        return {k: redact(v, str(k)) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [redact(v) for v in value]
    if isinstance(value, BaseException):
        return redact_text(repr(value))
    return value


def _redact_event(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {k: redact(v, k) for k, v in event.items()}


def _shared_processors(service: str) -> list[Any]:
    def name_the_service(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {"service": service, **event}

    return [
        name_the_service,
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        _redact_event,
    ]


def configure_logging(service: str, level: str = "INFO", *, json: bool = True, directory: str | None = None) -> None:
    """Route structlog and the standard library through one redacting pipeline.

    It ends at standard output and, with a `directory`, also in the rotated file `<service>.log` there.
    """
    shared = _shared_processors(service)
    renderer: Any = structlog.processors.JSONRenderer() if json else structlog.dev.ConsoleRenderer(colors=False)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )
    handlers = _handlers(Path(directory) / f"{service}.log" if directory else None)
    for handler in handlers:
        handler.setFormatter(formatter)
    logging.basicConfig(handlers=handlers, level=level, force=True)
    for noisy in ("aiormq", "aio_pika", "httpx", "httpcore", "web3", "urllib3"):
        logging.getLogger(noisy).setLevel("WARNING")


def _handlers(file: Path | None) -> list[logging.Handler]:
    console = logging.StreamHandler(sys.stdout)
    if file is None:
        return [console]
    if is_standard_output(file):
        return [SharedLogFile(file)]
    return [console, SharedLogFile(file)]


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger
