"""What of a restored back-up does not go on by itself: an owner may have ended it since, and nobody knows any more."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

# The tables may be of any release: before cycles had a mode, all of them were live.
_PAUSE_FLOWS = text("""
WITH paused AS (
    UPDATE flows SET status = 'paused'
    WHERE status = 'running' AND (mode = 'live' OR EXISTS (
        SELECT FROM cycles WHERE flow_pk = flows.id AND cycles.status = 'running'
        AND coalesce(to_jsonb(cycles) ->> 'mode', 'live') = 'live'))
    RETURNING id
)
INSERT INTO flow_logs (flow_pk, cycle, log_level, log_source, message)
SELECT id, coalesce((SELECT max(cycle) FROM cycles WHERE flow_pk = paused.id), 0), 'WARNING', 'system', :reason
FROM paused
""")
_END_SESSIONS = text("UPDATE auth_sessions SET revoked_at = now() WHERE revoked_at IS NULL")
_REVOKE_KEYS = text("UPDATE api_keys SET revoked_at = now() WHERE revoked_at IS NULL")


@dataclass(frozen=True)
class HeldBack:
    """How many of each were going on in the back-up."""

    flows: int
    sessions: int
    api_keys: int

    def __str__(self) -> str:
        return f"{self.flows} live flows paused, {self.sessions} sessions ended, {self.api_keys} API keys revoked"


async def hold_back(connection: AsyncConnection, moment: str) -> HeldBack:
    """Pause the flows that trade, each with a line for its owner, and end every session and API key.

    A flow that was stopped after `moment` runs in the back-up, a session that was ended lives in it.
    """
    reason = f"paused: the platform was restored from its back-up of {moment}; resume the flow, or stop it"
    paused = await connection.execute(_PAUSE_FLOWS, {"reason": reason})
    ended = await connection.execute(_END_SESSIONS)
    revoked = await connection.execute(_REVOKE_KEYS)
    return HeldBack(paused.rowcount, ended.rowcount, revoked.rowcount)
