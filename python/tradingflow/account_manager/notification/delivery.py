"""Sending what is due: claim, send, record.

A claim is committed before the notice goes out and says when it may be claimed again, so a process that dies in
between delays its notices and loses none. The receiver may then get one twice, under the same id. What comes of a
try is recorded only by whoever still holds the claim.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import func, select, update

from tradingflow.account_manager.auth.hashing import hash_secret
from tradingflow.account_manager.notification.messages import Text, confirmation, notice
from tradingflow.account_manager.notification.senders import Answer, EmailSender, TelegramSender, WebhookSender, failed
from tradingflow.account_manager.notification.topics import CONFIRMATION
from tradingflow.account_manager.schedule import SLOW_RUN_S
from tradingflow.core.clock import Clock
from tradingflow.core.config import ExecutorSettings
from tradingflow.core.errors import InvariantBroken
from tradingflow.core.logging import get_logger
from tradingflow.core.sealing import Sealed, Sealer
from tradingflow.db.engine import SessionFactory
from tradingflow.db.models import NotificationChannel
from tradingflow.db.models import NotificationDelivery as Delivery
from tradingflow.outbound.client import GuardedHttp

log = get_logger(__name__)

AT_ONCE = 100
# So many of one channel: a receiver that hangs does not hold up the others.
AT_ONCE_OF_CHANNEL = 5
# Longer than AT_ONCE_OF_CHANNEL tries take.
CLAIM = timedelta(seconds=60)
# The pauses after each failed try, about 28 hours in all (the schedule Standard Webhooks suggests).
PAUSES_S = (5, 30, 300, 1_800, 7_200, 18_000, 36_000, 36_000)
MAX_RETRY_AFTER_S = 86_400.0
# A channel that failed for so long without a success is paused.
GIVEN_UP_AFTER = timedelta(days=5)
CODE_LIFE = timedelta(minutes=15)


@dataclass(frozen=True)
class Claimed:
    delivery: Delivery
    channel: NotificationChannel


class Deliverer:
    def __init__(self, sessions: SessionFactory, settings: ExecutorSettings, http: GuardedHttp, clock: Clock) -> None:
        self._sessions = sessions
        self._clock = clock
        self._sealer = Sealer(settings.credentials_key.get_secret_value())
        self._webhooks = WebhookSender(http)
        self._telegram = TelegramSender(http, settings)
        self._email = EmailSender(settings)

    async def run(self) -> int:
        """Send until nothing is due, or for a while; returns how many were tried."""
        began, tried = time.monotonic(), 0
        while time.monotonic() - began < SLOW_RUN_S and (claimed := await self._claim()):
            async with asyncio.TaskGroup() as group:
                for line in _by_channel(claimed):
                    group.create_task(self._try_in_turn(line))
            tried += len(claimed)
        return tried

    async def _claim(self) -> list[Claimed]:
        now = self._clock.now()
        async with self._sessions.begin() as session:
            due = (
                select(
                    Delivery.id,
                    Delivery.due_at,
                    func.row_number().over(partition_by=Delivery.channel_id, order_by=Delivery.due_at).label("place"),
                )
                .where(Delivery.due_at <= now)
                .subquery()
            )
            share = (
                select(due.c.id)
                .where(due.c.place <= AT_ONCE_OF_CHANNEL)
                .order_by(due.c.due_at)
                .limit(AT_ONCE)
                .subquery()
            )
            chosen = (
                select(Delivery.id)
                .join(share, share.c.id == Delivery.id)
                .where(Delivery.due_at <= now)
                .with_for_update(of=Delivery, skip_locked=True)
            )
            ids = list(await session.scalars(chosen))
            claim = {"tries": Delivery.tries + 1, "last_tried_at": now, "due_at": now + CLAIM}
            await session.execute(
                update(Delivery).where(Delivery.id.in_(ids)).values(claim).execution_options(synchronize_session=False)
            )
            rows = await session.execute(
                select(Delivery, NotificationChannel)
                .join(NotificationChannel, NotificationChannel.id == Delivery.channel_id)
                .where(Delivery.id.in_(ids))
                .order_by(Delivery.created_at)
            )
            return [Claimed(delivery, channel) for delivery, channel in rows]

    async def _try_in_turn(self, line: Sequence[Claimed]) -> None:
        """One channel's notices in the order of what happened, unless one has to be repeated."""
        for one in line:
            await self._try(one)

    async def _try(self, claimed: Claimed) -> None:
        """The edge of one delivery: what is wrong with it stops no other."""
        try:
            answer = await self._send(claimed.delivery, claimed.channel)
            await self._record(claimed, answer)
        except Exception as error:  # noqa: BLE001 - whatever it is, the claim ends and it is tried again
            log.warning("delivery not made", delivery_id=str(claimed.delivery.id), error=error)

    async def _send(self, delivery: Delivery, channel: NotificationChannel) -> Answer:
        if channel.status == "paused":
            return Answer(ok=False, shown={"error": "paused", "detail": "the channel was paused"}, gone=True)
        if channel.kind == "webhook":
            return await self._send_webhook(delivery, channel)
        text = await self._text(delivery, channel)
        if channel.kind == "telegram":
            return await self._telegram.send(channel.target, text)
        return await self._email.send(channel.target, text)

    async def _send_webhook(self, delivery: Delivery, channel: NotificationChannel) -> Answer:
        try:
            sealed = Sealed(channel.key_id or "", channel.sealed or b"")
            secret = self._sealer.open(sealed, channel.id, channel.user_id)
        except InvariantBroken as error:
            return failed(error)
        return await self._webhooks.send(channel.target, secret, delivery, self._clock.now())

    async def _text(self, delivery: Delivery, channel: NotificationChannel) -> Text:
        if delivery.topic != CONFIRMATION:
            return notice(delivery.topic, delivery.payload)
        code = f"{secrets.randbelow(10**8):08}"
        fresh = {"code_hash": hash_secret(code), "code_expires_at": self._clock.now() + CODE_LIFE, "code_tries": 0}
        async with self._sessions.begin() as session:
            await session.execute(
                update(NotificationChannel).where(NotificationChannel.id == channel.id).values(**fresh)
            )
        return confirmation(code)

    async def _record(self, claimed: Claimed, answer: Answer) -> None:
        now = self._clock.now()
        delivery = claimed.delivery
        mine = update(Delivery).where(Delivery.id == delivery.id, Delivery.tries == delivery.tries)
        values = {"last_answer": answer.shown, **_outcome(answer, delivery.tries, now)}
        async with self._sessions.begin() as session:
            held = await session.scalar(mine.where(Delivery.status == "pending").values(values).returning(Delivery.id))
            if held is None:
                return
            # Not its key: who writes deliveries of the channel meanwhile need not wait, and may hold one we changed.
            unkeyed = {"key_share": True}
            channel = await session.get(NotificationChannel, claimed.channel.id, with_for_update=unkeyed)
            if channel is not None:
                _judge(channel, answer, now)


def _by_channel(claimed: Sequence[Claimed]) -> list[list[Claimed]]:
    lines: dict[UUID, list[Claimed]] = defaultdict(list)
    for one in claimed:
        lines[one.channel.id].append(one)
    return list(lines.values())


def _outcome(answer: Answer, tries: int, now: datetime) -> dict[str, object]:
    if answer.ok:
        return {"status": "delivered", "delivered_at": now, "due_at": None}
    if answer.gone or tries > len(PAUSES_S):
        return {"status": "failed", "due_at": None}
    pause_s = max(PAUSES_S[tries - 1] * (0.9 + 0.2 * secrets.randbelow(1_000) / 1_000), answer.retry_after_s or 0)
    return {"due_at": now + timedelta(seconds=min(pause_s, MAX_RETRY_AFTER_S))}


def _judge(channel: NotificationChannel, answer: Answer, now: datetime) -> None:
    """Pause a channel that says it is gone (410), or has done nothing but fail for days."""
    if answer.ok:
        channel.failing_since = None
        return
    if channel.status != "active":
        return
    channel.failing_since = channel.failing_since or now
    if answer.gone:
        channel.status, channel.paused_reason = "paused", "the receiver answered 410 Gone"
    elif now - channel.failing_since > GIVEN_UP_AFTER:
        channel.status, channel.paused_reason = "paused", "every delivery failed for five days"
