"""Invariant 7: every outbound request goes through the guarded client. This finds what could go round it."""

import ast
from pathlib import Path

import tradingflow

ROOT = Path(tradingflow.__file__).parent
CLIENTS = frozenset({
    "aiohttp", "httpx", "httpcore", "requests", "urllib.request", "urllib3", "http.client", "socket", "websockets",
    "ftplib", "smtplib", "telnetlib", "ccxt", "openai", "feedparser", "gspread", "google", "subprocess",
    "asyncio.open_connection",
})  # fmt: skip
# Talks to addresses an operator configured, or not at all; none of these modules takes a URL from a user.
KNOWN = {
    "outbound/client.py": {"httpx", "socket"},
    "web/jwks.py": {"httpx"},
    "py_worker/server.py": {"httpx"},
    "py_worker/runtime/worker.py": {"socket"},  # the machine's name
    "py_worker/sandbox/wall.py": {"socket"},
    "py_worker/sandbox/runner.py": {"socket", "subprocess"},
    "py_worker/sandbox/jail.py": {"subprocess"},
    "py_worker/kit/providers.py": {"httpx"},
    "outbound/exchanges.py": {"ccxt"},  # its every request is sent by the guarded client
    "py_worker/kit/exchanges.py": {"ccxt"},
    "py_worker/kit/sheets.py": {"gspread", "google", "requests"},  # its session sends through the node's client
    "py_worker/nodes/ai_model_node.py": {"httpx", "openai"},
    "py_worker/nodes/rss_listener_node.py": {"feedparser"},
}
USER_ROOMS = ("py_worker", "outbound")


def clients_in(source: str) -> set[str]:
    """Network libraries a module imports, at any depth."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        elif isinstance(node, ast.Attribute) and node.attr == "open_connection":
            names = ["asyncio.open_connection"]
        found |= {name for name in names if name in CLIENTS} | {n.split(".")[0] for n in names} & CLIENTS
    return found


def test_no_module_of_the_worker_opens_a_connection_past_the_guarded_client() -> None:
    used = {
        str(path.relative_to(ROOT)): clients
        for room in USER_ROOMS
        for path in (ROOT / room).rglob("*.py")
        if (clients := clients_in(path.read_text(encoding="utf-8")))
    }
    unknown = {module: clients - KNOWN.get(module, set()) for module, clients in used.items()}
    assert {module: clients for module, clients in unknown.items() if clients} == {}


def test_the_search_sees_a_call_site_hidden_in_a_function() -> None:
    assert clients_in("def f():\n    import httpx.dispatch\n    from urllib.request import urlopen") == {
        "httpx",
        "urllib.request",
    }
    assert clients_in("async def f():\n    await asyncio.open_connection('x', 1)") == {"asyncio.open_connection"}
