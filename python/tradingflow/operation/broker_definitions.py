"""RabbitMQ's exchanges, queues, bindings and policies, through its management API. Messages are not part of it."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import httpx

from tradingflow.core.config import PlatformSettings
from tradingflow.core.errors import DependencyUnavailable

TIMEOUT_S = 30.0


class ManagementApi:
    """The management API at `url`, as the user of RABBITMQ_USER."""

    def __init__(self, url: str, settings: PlatformSettings) -> None:
        self._url = url.rstrip("/")
        self._login = (settings.rabbitmq_user, settings.rabbitmq_password.get_secret_value())

    async def export(self, vhost: str) -> Any:
        """The definitions of one virtual host; no users, no passwords."""
        return (await self._request("GET", vhost)).json()

    async def load(self, vhost: str, definitions: bytes) -> None:
        """Add what is missing; what is there already stays as it is."""
        await self._request("POST", vhost, definitions)

    async def _request(self, method: str, vhost: str, body: bytes | None = None) -> httpx.Response:
        url = f"{self._url}/api/definitions/{quote(vhost, safe='')}"
        headers = {"Content-Type": "application/json"}
        try:
            async with httpx.AsyncClient(auth=self._login, timeout=TIMEOUT_S, trust_env=False) as client:
                answer = await client.request(method, url, content=body, headers=headers)
                answer.raise_for_status()
        except httpx.HTTPError as error:
            said = f"{error.response.status_code}" if isinstance(error, httpx.HTTPStatusError) else type(error).__name__
            raise DependencyUnavailable(
                "management_unavailable", f"RabbitMQ's management at {self._url}: {said}"
            ) from error
        return answer
