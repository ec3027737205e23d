"""The preflight route."""

from __future__ import annotations

from fastapi import APIRouter

from tradingflow.py_worker.flows.schemas import FlowId
from tradingflow.py_worker.parts import TheParts
from tradingflow.py_worker.preflight.arming import judge
from tradingflow.py_worker.preflight.schemas import PreflightView, view_of
from tradingflow.web.auth import CurrentUser
from tradingflow.web.errors import error_responses

router = APIRouter(prefix="/flows", tags=["flows"], responses=error_responses(401, 404, 422))


@router.post("/{flow_id}/preflight", responses=error_responses(429, 503))
async def preflight(flow_id: FlowId, user: CurrentUser, parts: TheParts) -> PreflightView:
    """What the current version would trade in a day, what its vaults say to that, and what it may cost. Sends nothing.

    Each trade is simulated on the newest block. A finding that `blocks` also keeps the flow from being started. Two of
    your flows are judged at a time, those you start included; a third is a 429.
    """
    return view_of(await judge(user.user_id, flow_id, parts))
