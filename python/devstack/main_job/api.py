"""A small client for our own REST, as a front end would have it."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx

from devstack.main_job.waiting import wait_for

TIMEOUT_S = 15
# A service that was killed is back within this time; a front end would show "reconnecting" meanwhile.
AWAY_TIMEOUT_S = 60


class ApiRefused(Exception):
    """The service answered with an error; the text holds its code and detail."""

    def __init__(self, method: str, path: str, answer: httpx.Response) -> None:
        super().__init__(f"{method} {path} answered {answer.status_code}: {answer.text[:500]}")
        self.status_code = answer.status_code


class Api:
    """Calls one service; retries while it is away (every call the main job makes may be repeated)."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self._client = httpx.Client(base_url=base_url, timeout=TIMEOUT_S)
        self._renew: Callable[[], str] | None = None

    def close(self) -> None:
        self._client.close()

    def authorize(self, token: str, renew: Callable[[], str] | None = None) -> None:
        """Send this access token from now on; `renew` gets a new one when it has expired."""
        self._client.headers["Authorization"] = f"Bearer {token}"
        self._renew = renew or self._renew

    @property
    def token(self) -> str:
        """The access token sent now; empty before `authorize`."""
        return str(self._client.headers.get("Authorization", "")).removeprefix("Bearer ")

    def get(self, path: str, **query: Any) -> Any:
        """The JSON of a GET; raises ApiRefused."""
        return self._call("GET", path, params={k: v for k, v in query.items() if v is not None})

    def post(self, path: str, body: Any = None) -> Any:
        """The JSON of a POST; raises ApiRefused."""
        return self._call("POST", path, json={} if body is None else body)

    def pages(self, path: str, **query: Any) -> Iterator[Any]:
        """Every item of a cursor-paginated list."""
        cursor = None
        while True:
            page = self.get(path, cursor=cursor, **query)
            yield from page["items"]
            cursor = page.get("next_cursor")
            if cursor is None:
                return

    def _call(self, method: str, path: str, **arguments: Any) -> Any:
        answer = self._send(method, path, arguments)
        if answer.status_code == httpx.codes.UNAUTHORIZED and self._renew is not None:
            self.authorize(self._renew())
            answer = self._send(method, path, arguments)
        if answer.is_error:
            raise ApiRefused(method, path, answer)
        return answer.json() if answer.content else None

    def _send(self, method: str, path: str, arguments: dict[str, Any]) -> httpx.Response:
        def attempt() -> httpx.Response | None:
            try:
                answer = self._client.request(method, path, **arguments)
            except httpx.TransportError:
                return None
            return None if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE else answer

        return wait_for(attempt, f"an answer of {self.base_url}{path}", timeout_s=AWAY_TIMEOUT_S)
