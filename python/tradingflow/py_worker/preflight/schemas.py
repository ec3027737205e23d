"""What the preflight route answers. Amounts are whole numbers of base units as text."""

from __future__ import annotations

from pydantic import BaseModel, Field

from tradingflow.py_worker.preflight.judgement import Finding
from tradingflow.py_worker.preflight.service import JudgedSpend, JudgedTrade, Judgement


class FindingView(BaseModel):
    code: str
    detail: str
    node_id: str | None
    blocks: bool = Field(description="As things stand the trade would certainly revert: the flow is not started")


class TradeView(BaseModel):
    """What one trade node would do now; `gas` and `amount_out` are null where it could not be simulated."""

    node_id: str
    chain_id: int | None
    vault: str | None
    router: str | None
    token_in: str | None
    token_out: str | None
    amount_in: str | None = Field(description="null when another node brings the amount")
    amount_out: str | None
    gas: int | None


class SpendView(BaseModel):
    """The most a day may sell of a token, beside what the vault allows and holds."""

    chain_id: int
    vault: str
    token: str
    trades_a_day: int
    worst_case_a_day: str
    per_trade_cap: str
    per_day_cap: str
    spent_today: str
    balance: str


class GasView(BaseModel):
    chain_id: int
    gas_a_day: int
    cost_a_day_wei: str


class PreflightView(BaseModel):
    """`ready`: nothing is known that would certainly make a trade of this flow revert."""

    ready: bool
    cycles_a_day: int
    trades: list[TradeView]
    spend: list[SpendView]
    gas: list[GasView]
    unsimulated_nodes: list[str] = Field(description="Nodes that never completed in a cycle of this version")
    findings: list[FindingView]


def view_of(judgement: Judgement) -> PreflightView:
    return PreflightView(
        ready=not judgement.blocked,
        cycles_a_day=judgement.cycles_a_day,
        trades=[_trade(one) for one in judgement.trades],
        spend=[_spend(one) for one in judgement.spends],
        gas=[GasView(chain_id=g.chain_id, gas_a_day=g.gas, cost_a_day_wei=str(g.cost_wei)) for g in judgement.gas],
        unsimulated_nodes=list(judgement.unsimulated_nodes),
        findings=[_finding(finding) for finding in judgement.findings],
    )


def _finding(finding: Finding) -> FindingView:
    return FindingView(code=finding.code, detail=finding.detail, node_id=finding.node_id, blocks=finding.blocks)


def _trade(one: JudgedTrade) -> TradeView:
    trade = one.trade
    return TradeView(
        node_id=one.node_id,
        chain_id=trade.chain_id if trade else None,
        vault=trade.vault if trade else None,
        router=one.router,
        token_in=trade.token_in if trade else None,
        token_out=trade.token_out if trade else None,
        amount_in=_text(trade.amount_in if trade else None),
        amount_out=_text(one.simulated.amount_out),
        gas=one.simulated.gas,
    )


def _spend(one: JudgedSpend) -> SpendView:
    spend, allowance = one.spend, one.allowance
    return SpendView(
        chain_id=spend.chain_id,
        vault=spend.vault,
        token=spend.token,
        trades_a_day=spend.trades,
        worst_case_a_day=str(spend.worst_case),
        per_trade_cap=str(allowance.per_trade_cap),
        per_day_cap=str(allowance.per_day_cap),
        spent_today=str(allowance.spent_today),
        balance=str(allowance.balance),
    )


def _text(amount: int | None) -> str | None:
    return None if amount is None else str(amount)
