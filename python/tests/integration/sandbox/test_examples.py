"""The example flow on the page of every node, run: code in the real sandbox, providers as they answer, a market in
memory."""

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from tradingflow.outbound.client import HttpResponse
from tradingflow.py_worker.engine.cycle import CycleState, Outcome, inputs_of
from tradingflow.py_worker.engine.graph import build_graph
from tradingflow.py_worker.kit import Incoming, PoolPrice, Quote, SecretRef, TokenInfo, node_types
from tradingflow.py_worker.kit.testing import (
    DOLLAR,
    ETHER,
    FixedMarkets,
    MemoryContext,
    MemoryDatasets,
    NobodyThere,
    SpendingGateway,
)
from tradingflow.py_worker.sandbox.runner import Sandbox
from tradingflow.py_worker.specs import node_specs

DOCS = Path(__file__).resolve().parents[4] / "docs" / "nodes"
EXAMPLE = re.compile(r"```json\n(.*?)\n```", re.DOTALL)
TYPES = sorted({node.type for node in node_types().values()})
CANDLE = [1700000000000, "1.0", "3.0", "0.5", "2.5", "100.0", 1700000059999, "250.0", 9, "50.0", "125.0", "0"]
FEED = "<rss version='2.0'><channel><item><guid>1</guid><title>ETH up</title></item></channel></rss>"
MESSAGE = {"role": "assistant", "content": "good"}
COMPLETION = {
    "id": "c", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": MESSAGE}],
}  # fmt: skip
# What a provider answers, by a part of its address.
ANSWERS: dict[str, Any] = {
    "/klines": [CANDLE],
    "api.coingecko.com": {"ethereum": {"usd": 2412.5}},
    "example.com/feed": FEED,
    "api.telegram.org": {"ok": True, "result": {"message_id": 7, "chat": {"id": 1}}},
    "/users/by/username": {"data": {"id": "42"}},
    "/tweets": {"data": [{"id": "1", "text": "gm"}]},
    "/chat/completions": COMPLETION,
    "example.com": {"ok": True},
}


class Providers:
    """`HttpClient` of providers that answer."""

    async def request(self, method: str, url: str, **_: Any) -> HttpResponse:
        answer = next(answer for part, answer in ANSWERS.items() if part in url)
        body = answer if isinstance(answer, str) else json.dumps(answer)
        return HttpResponse(200, {"content-type": "application/json"}, body.encode(), url)


class AnySecret:
    async def reveal(self, reference: SecretRef) -> str:
        return "word"

    def conceal(self, reference: SecretRef, value: str) -> None:
        return


class AnyMarket(FixedMarkets):
    """One price for every pool; every token has 18 decimals."""

    async def token(self, chain_id: int, address: str) -> TokenInfo:
        return TokenInfo(address, 18)

    async def pool_price(self, chain_id: int, pool: str, base_token: str | None = None) -> PoolPrice:
        base = ETHER if base_token is None else TokenInfo(base_token, 18)
        return PoolPrice(chain_id, pool, base, DOLLAR, self.price, 3000, 7)

    async def quote(self, chain_id: int, path: bytes, amount_in: int, router: str | None = None) -> Quote:
        return Quote(ETHER, DOLLAR, amount_in, amount_in, self.price)


def example(name: str) -> dict[str, Any]:
    found = EXAMPLE.search((DOCS / f"{name}.md").read_text(encoding="utf-8"))
    assert found is not None
    flow: dict[str, Any] = json.loads(found.group(1))["flow_json"]
    return flow


@pytest.mark.parametrize("name", TYPES)
async def test_the_example_on_a_page_runs_to_its_end(sandbox: Sandbox, name: str) -> None:
    graph = build_graph(example(name), node_specs(node_types()))
    markets = AnyMarket(held=defaultdict(lambda: 10**24))
    state, signals = CycleState(graph), dict[str, Any]()
    ready = state.start().ready
    while ready:
        index = ready.pop()
        node, arrivals = graph.nodes[index], state.arrivals(index)
        ctx = MemoryContext(
            node_id=node.id,
            http=Providers(),
            secrets=AnySecret(),
            markets=markets,
            trades=SpendingGateway(markets),
            code=sandbox.for_owner("example"),
            datasets=MemoryDatasets(),
            approvals=NobodyThere(),
            incoming=[Incoming(graph.nodes[a.source].id, a.source_handle, a.target_handle, a.value) for a in arrivals],
        )
        outputs = await node_types()[node.type].execute(ctx, node.config, inputs_of(node, arrivals))
        signals[node.id] = outputs.signals()
        ready += state.finish(index, Outcome("completed", outputs.signals())).ready
    assert state.is_done
    assert signals["example"], "the example gives nothing"
