"""The journal and the way back: 1,000 cycles of random flows replay to equal outputs, and no secret is kept."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, cast

import pytest
from pydantic import BaseModel

from tests.unit.worker.memory import grows_by_at_most
from tradingflow.core.errors import DependencyUnavailable, InvalidInput, Refused
from tradingflow.outbound.client import HttpResponse
from tradingflow.py_worker.engine.cycle import CycleState, Outcome, inputs_of
from tradingflow.py_worker.engine.graph import Graph, build_graph
from tradingflow.py_worker.kit import Incoming, Json, Node, NodeContext, NodeInputs, NodeOutputs, NodeParams, Secret
from tradingflow.py_worker.kit.context import CodeResult
from tradingflow.py_worker.kit.handles import Handle
from tradingflow.py_worker.kit.markets import PoolPrice, Quote, SwapIntent, TokenInfo, TradeReceipt
from tradingflow.py_worker.kit.testing import ETHER, MemoryContext, MemorySecrets, MemoryState
from tradingflow.py_worker.replay.context import Answers
from tradingflow.py_worker.replay.replay import Recording, Replay
from tradingflow.py_worker.runtime import journal as journals
from tradingflow.py_worker.runtime.journal import Journal, JournalingContext
from tradingflow.py_worker.runtime.runner import MAX_DETAIL_CHARS, NodeFailure, encoded_json, execute_node
from tradingflow.py_worker.specs import node_specs

SECRET = "hunter2-of-the-exchange"
START = datetime(2026, 1, 1, tzinfo=UTC)
TOKEN = TokenInfo(ETHER.address, 18, "ETH")


class Weather:
    """The outside world: no answer is ever given twice."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.time = START

    def now(self) -> datetime:
        self.time += timedelta(seconds=self.chance.random())
        return self.time

    def fail_sometimes(self) -> None:
        fate = self.chance.random()
        if fate < 0.05:
            raise DependencyUnavailable("away", "nobody answers")
        if fate < 0.1:
            raise Refused("no", f"not now, {fate}")
        if fate < 0.12:
            raise InvalidInput("bad", "not so")

    def amount(self) -> int:
        return self.chance.randrange(10 ** self.chance.randrange(1, 40))

    def price(self) -> Decimal:
        return Decimal(self.amount()) / Decimal(10 ** self.chance.randrange(1, 20))

    # The ports of a node's context.

    async def pool_price(self, chain_id: int, pool: str, base_token: str | None = None) -> PoolPrice:
        self.fail_sometimes()
        return PoolPrice(chain_id, pool, TOKEN, TOKEN, self.price(), 3000, self.amount())

    async def quote(self, chain_id: int, path: bytes, amount_in: int, router: str | None = None) -> Quote:
        self.fail_sometimes()
        return Quote(TOKEN, TOKEN, amount_in, self.amount(), self.price())

    async def balances(self, chain_id: int, holder: str, tokens: Sequence[str]) -> dict[str, int]:
        return {token: self.amount() for token in tokens}

    def pools(self, chain_id: int) -> tuple[str, ...]:
        return (str(self.amount()),)

    async def request(self, method: str, url: str, **more: Any) -> HttpResponse:
        self.fail_sometimes()
        bodies = [b"\xff\x00" + bytes([self.chance.randrange(256)]), f'{{"said": "{self.amount()}"}}'.encode()]
        headers = {"content-type": "x", "set-cookie": "sid=1"}
        echo = SECRET.encode() if SECRET in url or SECRET.encode() in more.get("content", b"") else b""
        return HttpResponse(200, headers, self.chance.choice(bodies) + echo, url)

    async def candles(self, query: Any) -> list[list[float]]:
        return [[float(n), self.chance.random(), 1e-9] for n in range(3)]

    async def swap(self, intent: SwapIntent) -> TradeReceipt:
        self.fail_sometimes()
        amounts = {"amount_in": intent.amount_in, "amount_out": self.amount(), "price": self.price()}
        tokens = {"token_in": "a", "token_out": "b"}
        where = {"trade_id": "0x1", "vault": intent.vault, "chain_id": 1, "transaction_hash": "0x2", "block_number": 3}
        return TradeReceipt.model_validate({**amounts, **tokens, **where})

    async def resume(self) -> TradeReceipt | None:
        return None

    async def ask(self, asking: Any) -> bool:
        return self.chance.random() < 0.5

    async def read(self, name: str, limit: int) -> list[dict[str, Json]]:
        return [{"n": self.amount() % 1000}]

    async def run(self, code: str, inputs: Mapping[str, Json], outputs: Sequence[str], **more: Any) -> CodeResult:
        return CodeResult({"out": self.chance.random()}, stdout="said")


class Params(NodeParams):
    asks: tuple[str, ...] = ()
    salt: int = 0
    key: Secret | None = None


class Inputs(NodeInputs):
    inp: Annotated[Any, Handle(many=True)] = ()


class Outputs(NodeOutputs):
    out: Json = None


class AskingNode(Node[Params, Inputs, Outputs]):
    """Asks the world for what its config names, in that order, and tells all of it."""

    type = "asking"
    title = description = category = "test"

    async def run(self, ctx: NodeContext, params: Params, inputs: Inputs) -> Outputs:
        told: list[Any] = [params.salt, len(inputs.inp)]
        secret = await ctx.secrets.reveal(params.key) if params.key else ""
        for ask in params.asks:
            try:
                told.append(_plain(await _ASKED[ask](ctx, secret)))
            except DependencyUnavailable as error:
                told.append(error.code)
        return Outputs(out=told)


async def _remember(ctx: NodeContext, _: str) -> Any:
    known = await ctx.state.get("seen")
    await ctx.state.set("seen", (known or 0) + 1)
    return [known, await ctx.state.compare_and_set("seen", (known or 0) + 1, 9), await ctx.state.get("seen")]


async def _now(ctx: NodeContext, _: str) -> Any:
    return ctx.clock.now().isoformat()


async def _refusal(_: NodeContext, __: str) -> Any:
    """It is stored otherwise than it is said."""
    raise Refused("no", "half of a pair: \ud800, nothing: \x00" + "!" * MAX_DETAIL_CHARS)


async def _pools(ctx: NodeContext, _: str) -> Any:
    return ctx.markets.pools(1)


_INTENT = SwapIntent(1, "0xv", b"\x00\xff", "a", "b", 10**30, 50)
_ASKED: dict[str, Any] = {
    "now": _now,
    "pools": _pools,
    "refusal": _refusal,
    "state": _remember,
    "price": lambda ctx, _: ctx.markets.pool_price(1, "0xp"),
    "quote": lambda ctx, _: ctx.markets.quote(1, b"\x01\xfe", 10**25),
    "balances": lambda ctx, _: ctx.markets.balances(1, "0xh", ["0xa", "0xb"]),
    "candles": lambda ctx, _: ctx.candles.candles({"symbol": "ETHUSDT"}),
    "http": lambda ctx, secret: ctx.http.request("GET", f"https://x.test/?key={secret}", headers={"a": secret}),
    "post": lambda ctx, secret: ctx.http.request("POST", "https://x.test/", content=f"key={secret}".encode()),
    "trade": lambda ctx, _: ctx.trades.swap(_INTENT),
    "trade by name": lambda ctx, _: ctx.trades.swap(intent=_INTENT),
    "resume": lambda ctx, _: ctx.trades.resume(),
    "ask": lambda ctx, _: ctx.approvals.ask({"question": "?"}),
    "rows": lambda ctx, _: ctx.datasets.read("mine", 3),
    "code": lambda ctx, _: ctx.code.run("out = 1", {}, ["out"], timeout_s=1, now=START, seed="s"),
}


def _plain(value: Any) -> Any:
    if isinstance(value, HttpResponse):
        return [value.status, dict(value.headers).get("content-type"), value.body.hex()]
    return json.loads(
        json.dumps(value, default=lambda held: held.model_dump() if isinstance(held, BaseModel) else str(held))
    )


TYPES: Any = {"asking": AskingNode()}
SPECS = node_specs(TYPES)


def random_graph(chance: random.Random) -> dict[str, Any]:
    """Up to eight nodes in a random order of edges, each asking for a handful of things."""
    nodes, edges = [], []
    for number in range(chance.randrange(1, 9)):
        asks = chance.choices(list(_ASKED), k=chance.randrange(5))
        config: dict[str, Any] = {"asks": asks, "salt": chance.randrange(9)}
        if chance.random() < 0.5:
            config["key"] = {"$secret": "key"}
        on_error = chance.choice(["fail", "continue", "route"])
        nodes.append({"id": f"n{number}", "type": "asking", "config": config, "on_error": on_error})
        sources = chance.sample(range(number), min(number, chance.randrange(3)))
        edges += [edge(f"n{source}", f"n{number}") for source in sources]
    return {"nodes": nodes, "edges": edges}


class Around(MemoryContext):
    """Candles come from the world, too."""

    @property
    def candles(self) -> Any:
        return self.http


def edge(source: str, target: str) -> dict[str, str]:
    return {"source": source, "source_handle": "out", "target": target, "target_handle": "inp"}


@dataclass
class Recorder:
    """Runs a graph as the worker does, with the journal of the worker."""

    graph: Graph
    world: Weather
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    journal: dict[str, list[Any]] = field(default_factory=dict)

    async def run(self) -> Recording:
        state = CycleState(self.graph)
        waiting = list(state.start().ready)
        while waiting:
            index = waiting.pop(0)
            outcome = await self._node(index, state)
            self.outcomes[self.graph.nodes[index].id] = outcome
            step = state.finish(index, outcome)
            self.outcomes.update({self.graph.nodes[i].id: Outcome("skipped") for i in step.skipped})
            waiting += step.ready
        return Recording("f", 3, "live", "id", START, self.outcomes, self.journal)

    async def _node(self, index: int, state: CycleState) -> Outcome:
        node, world, journal = self.graph.nodes[index], self.world, Journal()
        arrivals = state.arrivals(index)
        incoming = [Incoming("", a.source_handle, a.target_handle, a.value) for a in arrivals]
        ports: dict[str, Any] = dict.fromkeys(
            ("clock", "markets", "trades", "http", "code", "datasets", "approvals"), world
        )
        secrets = MemorySecrets({"key": SECRET})
        context = Around("f", 3, node.id, incoming=incoming, secrets=secrets, state=MemoryState(), **ports)
        journaled = cast("NodeContext", JournalingContext(context, journal))
        try:
            signals = await execute_node(TYPES["asking"], journaled, node, inputs_of(node, arrivals))
            return Outcome("completed", json.loads(encoded_json(signals)))
        except NodeFailure as failure:
            error = failure.told()
            return Outcome("failed", {"error": error} if node.policy.on_error == "route" else {}, error)
        finally:
            if (text := journal.text()) is not None:
                assert SECRET not in text.entries
                assert not text.is_cut
                self.journal[node.id] = json.loads(text.entries)


async def test_a_thousand_journaled_cycles_replay_to_equal_outputs() -> None:
    chance = random.Random(8)
    asked = failed = 0
    for number in range(1_000):
        graph = build_graph(random_graph(chance), SPECS)
        recording = await Recorder(graph, Weather(number)).run()
        masked = {name: _masked(outcome) for name, outcome in recording.outcomes.items()}
        replayed = await Replay(recording, graph, TYPES).run()
        assert {n.node_id: (n.replayed.status, _masked(n.replayed).outputs) for n in replayed.nodes if n.replayed} == {
            name: (outcome.status, outcome.outputs) for name, outcome in masked.items()
        }, number
        asked += sum(len(entries) for entries in recording.journal.values())
        failed += sum(outcome.status == "failed" for outcome in recording.outcomes.values())
    assert asked > 3_000
    assert failed > 200


def _masked(outcome: Outcome) -> Outcome:
    """A body that echoed a secret is told with its name; these nodes show bodies as hex."""
    mark = journals.secret_mark("key")
    text = json.dumps(outcome.outputs).replace(SECRET.encode().hex(), mark.encode().hex())
    return Outcome(outcome.status, json.loads(text))


async def test_other_than_recorded_questions_are_not_answered_by_anybody() -> None:
    graph = build_graph({"nodes": [_asking("n0", ["price", "trade"])], "edges": []}, SPECS)
    other = build_graph({"nodes": [_asking("n0", ["quote"]), _asking("n1", ["price", "trade"])], "edges": []}, SPECS)
    recording = await Recorder(graph, Calm(1)).run()
    replayed = {node.node_id: node for node in (await Replay(recording, other, TYPES).run()).nodes}
    assert replayed["n0"].unanswered == ("markets.quote",)
    assert replayed["n1"].unanswered == ("trades.swap",), "a price is anybody's, a trade is not"
    assert replayed["n1"].replayed_intent["amount_in"] == 10**30


async def test_a_trade_asked_for_by_name_is_told_as_one_asked_for_by_place() -> None:
    graph = build_graph({"nodes": [_asking("n0", ["trade by name"])], "edges": []}, SPECS)
    recording = await Recorder(graph, Calm(1)).run()
    (node,) = (await Replay(recording, graph, TYPES).run()).nodes
    assert (node.verdict, node.unanswered) == ("same", ())
    assert node.recorded_intent == node.replayed_intent
    assert node.recorded_intent["amount_in"] == 10**30


class Calm(Weather):
    """A world that never fails."""

    def fail_sometimes(self) -> None:
        return


def _asking(node_id: str, asks: list[str]) -> dict[str, Any]:
    return {"id": node_id, "type": "asking", "config": {"asks": asks}}


async def test_more_than_a_journal_keeps_is_cut_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "MAX_JOURNAL_BYTES", 100)
    journal = Journal()
    journal.add("http", "request", [], {"result": "x" * 100})
    text = journal.text()
    assert text is not None
    assert (text.entries, text.is_cut) == ("[]", True)


@pytest.mark.parametrize("answers", [["a" * 200_000], ["a" * 5000] * 40, [b"a" * 200_000]])
def test_a_journal_that_masking_makes_too_long_is_cut_before_it_is_made(answers: list[Any]) -> None:
    journal = Journal()
    for secret in "at":
        journal.learn_secret("n" * 64, secret)
    for answer in answers:
        journal.add("http", "request", [], {"result": answer})
    with grows_by_at_most(2 * journals.MAX_JOURNAL_BYTES):
        text = journal.text()
    assert text is not None
    assert text.is_cut


def test_an_answer_that_is_as_a_whole_a_secret_leaves_a_journal_however_long_it_is() -> None:
    journal, answer = Journal(), "a" * (journals.MAX_JOURNAL_BYTES + 1)
    journal.learn_secret("key", answer)
    journal.add("http", "request", [], {"result": answer})
    text = journal.text()
    assert text is not None
    assert json.loads(text.entries)[0]["result"] == journals.secret_mark("key")


def test_a_node_that_asks_nothing_leaves_no_journal() -> None:
    assert Journal().text() is None


def test_a_journal_of_before_a_field_was_there_answers_the_same_question() -> None:
    old = {"chain_id": 1, "slippage_bps": 50}
    entry = {"part": "trades", "call": "swap", "args": [[old], {}], "result": 1}
    answers = Answers({"n": [entry]})
    assert answers.find("n", "trades", "swap", [[{**old, "router": None}], {}]) == entry
    assert answers.find("n", "trades", "swap", [[{**old, "router": "0x1"}], {}]) is None
