"""Whether the registered vaults let this deployment trade: whom they name as operator, beside the keys it has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto

from sqlalchemy import exists, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tradingflow.chain.rpc import RpcFailed, RpcNode
from tradingflow.chain.rpc_pool import RpcPool
from tradingflow.chain.vault import Operator
from tradingflow.chain.vault_operators import read_operators
from tradingflow.core.config import ChainSettings
from tradingflow.db.models import Signer, Trade, Vault
from tradingflow.operation.finding import Finding, State, fail, judge, ok
from tradingflow.operation.judgements import listed

MOST_VAULTS = 1_000
EXPIRES_SOON = timedelta(days=7)


@dataclass(frozen=True)
class Registered:
    """What the tables say of one chain at `now`, by the database's clock.

    `vaults` maps addresses to whether a trade was ever asked for there: those first, then the newest, no more than
    MOST_VAULTS of `total`. `signers` are the operators the Celery worker has keys for, as it wrote down at its start.
    """

    now: datetime
    total: int
    vaults: Mapping[str, bool]
    signers: tuple[str, ...]


async def read_registered(connection: AsyncConnection, chain_id: int) -> Registered:
    """One reading of the vaults and signers of a chain."""
    here = Vault.chain_id == chain_id
    traded = exists().where(Trade.chain_id == Vault.chain_id, Trade.vault_address == Vault.address).label("traded")
    newest = select(Vault.address, traded).where(here).order_by(traded.desc(), Vault.created_at.desc(), Vault.id)
    held = (Signer.chain_id == chain_id, Signer.retired_at.is_(None))
    signers = select(Signer.address).where(*held).order_by(Signer.address)
    now, total = (await connection.execute(select(func.clock_timestamp(), func.count(Vault.id)).where(here))).one()
    return Registered(
        now=now,
        total=total,
        vaults=dict((await connection.execute(newest.limit(MOST_VAULTS))).all()),
        signers=tuple(await connection.scalars(signers)),
    )


async def vault_findings(chain: ChainSettings, registered: Registered) -> list[Finding]:
    """What the vaults of a chain say on it, beside what is registered."""
    check = f"chain {chain.chain_id}: vaults"
    if not registered.vaults:
        return [ok(check, "none is registered")]
    pool = RpcPool(chain.chain_id, [RpcNode(url) for url in chain.rpc_urls], lambda *_: None)
    try:
        named = await read_operators(pool, list(registered.vaults))
    except RpcFailed as error:
        return [
            fail(check, error.detail, f"see chain {chain.chain_id} above: the vaults are asked over the same nodes")
        ]
    finally:
        await pool.close()
    return list(judge_vaults(check, registered, named))


class Standing(Enum):
    """Where a vault stands with this deployment."""

    OURS = auto()
    EXPIRING = auto()
    EXPIRED = auto()
    OTHERS = auto()
    REVOKED = auto()
    NOBODYS = auto()
    GONE = auto()


def standing(operator: Operator | None, registered: Registered, *, traded: bool) -> Standing:
    """Where the vault that names this operator stands; without any, it was revoked where there were trades before."""
    if operator is None:
        return Standing.GONE
    if operator.address is None:
        return Standing.REVOKED if traded else Standing.NOBODYS
    if operator.address not in registered.signers:
        return Standing.OTHERS
    if operator.expires_at <= registered.now:
        return Standing.EXPIRED
    return Standing.EXPIRING if operator.expires_at <= registered.now + EXPIRES_SOON else Standing.OURS


def judge_vaults(check: str, registered: Registered, named: Mapping[str, Operator | None]) -> Iterator[Finding]:
    """The findings about vaults that name these operators; `check` begins their names."""
    by_standing: dict[Standing, list[str]] = {kind: [] for kind in Standing}
    for vault, operator in named.items():
        by_standing[standing(operator, registered, traded=registered.vaults[vault])].append(vault)
    yield _overview(check, registered, by_standing)
    for kind, state, suffix, said, fix in _TROUBLES:
        if vaults := by_standing[kind]:
            ours = ", ".join(registered.signers) or "there is none"
            found = f"{len(vaults)} {said}: {listed(vaults)}"
            yield Finding(f"{check}, {suffix}", state, found, fix.format(ours=ours))
    yield from _uses(check, registered.signers, named.values())


def _overview(check: str, registered: Registered, by_standing: Mapping[Standing, list[str]]) -> Finding:
    fix = "give the Celery worker the key the vaults name (OPERATOR_PRIVATE_KEY or OPERATOR_KEYSTORE) and start it anew"
    if not registered.signers:
        return fail(check, f"{registered.total} registered and no operator: nothing can trade", fix)
    ours = len(by_standing[Standing.OURS]) + len(by_standing[Standing.EXPIRING])
    looked_at, total = len(registered.vaults), registered.total
    some = "" if looked_at == total else ", those with trades and then the newest"
    unnamed = len(by_standing[Standing.NOBODYS])
    found = f"{looked_at} of {total} looked at{some}: {ours} let us trade, {unnamed} allowed nobody yet"
    return judge(check, found, well=ours > 0 or not by_standing[Standing.OTHERS], fix=fix)


def _uses(check: str, signers: Iterable[str], operators: Iterable[Operator | None]) -> Iterator[Finding]:
    times = Counter(operator.address for operator in operators if operator is not None)
    for signer in signers:
        yield ok(f"{check}, operator {signer}", f"named by {times[signer]} of those looked at")


_AGAIN = "its owner may allow one of ours ({ours}): POST /evm/vaults/…/transactions/operator"
_TROUBLES = (
    (
        Standing.OTHERS,
        State.WARN,
        "other operator",
        "name an operator that no key is here for",
        "put that key back into OPERATOR_PRIVATE_KEY and restart the Celery worker; or " + _AGAIN,
    ),
    (
        Standing.EXPIRED,
        State.WARN,
        "operator expired",
        "let our operator trade no longer",
        "trades fail there; " + _AGAIN,
    ),
    (
        Standing.EXPIRING,
        State.WARN,
        "operator expires",
        f"let our operator trade for less than {EXPIRES_SOON.days} days more",
        "trades will fail there; " + _AGAIN,
    ),
    (
        Standing.REVOKED,
        State.WARN,
        "operator revoked",
        "had trades and name no operator now",
        "trades fail there; " + _AGAIN,
    ),
    (
        Standing.GONE,
        State.FAIL,
        "not there",
        "are registered and not on the chain",
        "the chain was begun anew, or its nodes are behind: correct rpc_urls in CHAINS, or restore the chain's data",
    ),
)
