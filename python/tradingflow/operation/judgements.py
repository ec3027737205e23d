"""When a figure is well, and what to do when it is not. No connections: figures in, findings out."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import ValidationError

from tradingflow.core.clock import SystemClock
from tradingflow.core.config import (
    AccountManagerSettings,
    BeatSettings,
    ExecutorSettings,
    MonitorSettings,
    PlatformSettings,
    WorkerSettings,
)
from tradingflow.messaging.queues import QueueDepth
from tradingflow.messaging.topology import CYCLES_DEAD
from tradingflow.operation.finding import Finding, State, fail, judge, ok, warn
from tradingflow.operation.vitals import Vitals

# As the alert DiskFills.
LEAST_FREE_BYTES = 5_000_000_000
# A sign-in message lives 300 s and a swap's deadline at most 120 s: a clock that is off by this much breaks both soon.
MOST_SKEW_S = 5.0
MOST_QUEUED = 1_000
STUCK_TRADE_S = 300.0
LATE_SCHEDULE_S = 60.0
OLD_OUTBOX_S = 30.0
IDLE_MONITOR_S = 120.0


def settings_findings(platform: PlatformSettings) -> list[Finding]:
    """Whether every service would accept the settings, and whether published secrets are in use."""
    services: dict[str, type[PlatformSettings]] = {
        "Account Manager": AccountManagerSettings,
        "Celery": ExecutorSettings,
        "Celery beat": BeatSettings,
        "Python Worker": WorkerSettings,
        "Monitor": MonitorSettings,
    }
    findings = [_accepts(name, cls) for name, cls in services.items()]
    if not platform.chains:
        findings.append(warn("settings: chains", "none is served", "set CHAINS in .env"))
    if platform.environment != "production":
        findings.append(ok("settings: environment", f"{platform.environment}: published passwords are allowed"))
    return findings


def _accepts(name: str, settings: type[PlatformSettings]) -> Finding:
    check = f"settings: {name}"
    try:
        settings()
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])).upper() or name}: {e['msg']}" for e in error.errors())
        return fail(check, wrong, "correct it in .env; .env.example explains every setting")
    return ok(check, "accepted")


def disk_findings(settings: PlatformSettings) -> list[Finding]:
    """Free space where we write."""
    folder = Path(settings.log_dir or ".")
    if not folder.is_dir():
        return [fail("disk", f"{folder} is not a folder", "make it, or correct LOG_DIR")]
    free = shutil.disk_usage(folder).free
    fix = "make room: old logs, old back-ups, or a larger disk"
    return [judge("disk", f"{free / 1e9:.1f} GB free for logs", well=free > LEAST_FREE_BYTES, fix=fix)]


def vital_findings(vitals: Vitals) -> list[Finding]:
    """What one reading of the tables says."""
    skew_s = abs((SystemClock().now() - vitals.database_time).total_seconds())
    trades, schedules = vitals.unsettled_trades, vitals.late_schedules
    findings = [
        judge(
            "clock",
            f"{skew_s:.1f} s apart from the database",
            well=skew_s <= MOST_SKEW_S,
            fix="run NTP on both machines",
        ),
        judge(
            "PostgreSQL: writes",
            "refused" if vitals.is_read_only else "accepted",
            well=not vitals.is_read_only,
            fix="this is a replica or a read-only server: point POSTGRES_HOST or DATABASE_URL to the primary",
        ),
        judge(
            "PostgreSQL: connections",
            f"{vitals.connections} of {vitals.max_connections}",
            well=vitals.connections < 0.8 * vitals.max_connections,
            fix="raise max_connections, run fewer replicas, or put PgBouncer in between",
            otherwise=State.WARN,
        ),
        judge(
            "trades",
            f"{trades.count} open, the oldest {trades.oldest_s:.0f} s",
            well=trades.oldest_s < STUCK_TRADE_S,
            fix="see the Celery worker's log for the trade id, the operator's balance and the chain's fees",
        ),
        judge(
            "schedules",
            f"{schedules.count} due, the oldest {schedules.oldest_s:.0f} s late",
            well=schedules.oldest_s < LATE_SCHEDULE_S,
            fix="see whether a Python Worker runs and is ready; start more of them",
        ),
        judge(
            "dead letters",
            str(vitals.dead_letters),
            well=vitals.dead_letters == 0,
            fix="read them (table dead_letters: reason), mend the cause, replay them",
            otherwise=State.WARN,
        ),
    ]
    return [*findings, *_outbox_findings(vitals), *_monitor_findings(vitals)]


def _outbox_findings(vitals: Vitals) -> Iterable[Finding]:
    for lane, backlog in sorted(vitals.outbox.items()):
        yield judge(
            f"outbox: {lane}",
            f"{backlog.count} waiting, the oldest {backlog.oldest_s:.0f} s",
            well=backlog.oldest_s < OLD_OUTBOX_S,
            fix=f"see whether the service {lane} runs and reaches RabbitMQ",
        )


def _monitor_findings(vitals: Vitals) -> Iterable[Finding]:
    for chain in vitals.chains:
        check = f"Monitor: chain {chain.chain_id}"
        if chain.halted_reason:
            fix = "a reorg deeper than finality or a broken node: see the operator guide, incident 'chain halted'"
            yield fail(check, f"halted: {chain.halted_reason}", fix)
        else:
            yield judge(
                check,
                f"next block {chain.next_block}, moved {chain.idle_s:.0f} s ago",
                well=chain.idle_s < IDLE_MONITOR_S,
                fix="see whether the Monitor runs and its RPC answers",
                otherwise=State.WARN,
            )


def queue_findings(depths: dict[str, QueueDepth | None]) -> list[Finding]:
    """Missing, unread and growing queues."""
    missing = [name for name, depth in depths.items() if depth is None]
    there = [depth for depth in depths.values() if depth is not None]
    unread = [depth.name for depth in there if not depth.consumers and depth.name != CYCLES_DEAD]
    full = [f"{depth.name}: {depth.waiting}" for depth in there if depth.waiting > MOST_QUEUED]
    return [
        judge("queues: declared", listed(missing, "all"), well=not missing, fix="start a service: each declares them"),
        judge(
            "queues: consumers",
            listed(unread, "every queue is read"),
            well=not unread,
            fix="cycle.partition.*: start a Python Worker; trade.requests: start the Celery worker",
            otherwise=State.WARN,
        ),
        judge(
            "queues: length",
            listed(full, f"none above {MOST_QUEUED}"),
            well=not full,
            fix="start more workers, and see in their logs what slows them",
            otherwise=State.WARN,
        ),
    ]


def listed(names: Sequence[str], none: str = "") -> str:
    """The first five of the names, and how many more there are; `none` where there is no name."""
    return none if not names else ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
