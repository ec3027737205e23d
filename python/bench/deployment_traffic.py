"""What a front end asks for, at a steady rate, by one user; every answer is kept."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import httpx

# A front end gives up after this; an answer that comes later counts as none.
TIMEOUT_S = 10.0
NO_ANSWER = 0


@dataclass(frozen=True)
class Answer:
    """`status` 0 means that none came; times are monotonic seconds."""

    at: float
    status: int
    seconds: float
    route: str


@dataclass
class Traffic:
    """A thread that asks `urls` in turn, `rate` times a second, from `start` until `stop`. Nothing is tried again."""

    urls: list[str]
    token: str
    rate: float
    answers: list[Answer] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._ending = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="traffic", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns once every open request is answered."""
        self._ending.set()
        self._thread.join()

    async def _run(self) -> None:
        headers = {"Authorization": f"Bearer {self.token}"}
        # As browsers do, idle connections are kept; a closed one must not cost a request.
        async with httpx.AsyncClient(timeout=TIMEOUT_S, headers=headers) as client, asyncio.TaskGroup() as group:
            due = time.monotonic()
            for url in itertools.cycle(self.urls):
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                if self._ending.is_set():
                    return
                group.create_task(self._ask(client, url, due))
                due += 1 / self.rate

    async def _ask(self, client: httpx.AsyncClient, url: str, due: float) -> None:
        try:
            status = (await client.get(url)).status_code
        except httpx.HTTPError:
            status = NO_ANSWER
        self.answers.append(Answer(due, status, time.monotonic() - due, url.split("/", 3)[3].split("?", maxsplit=1)[0]))

    def failed(self, since: float = 0.0) -> Counter[str]:
        """Answers that were not a success, by status and route."""
        return Counter(
            f"{answer.status} {answer.route}"
            for answer in self.answers
            if answer.at >= since and not 200 <= answer.status < 300
        )

    def p99_s(self) -> float:
        """Of all answers, from when a request was due."""
        return _p99(answer.seconds for answer in self.answers)

    def p99_ms_of_each(self) -> dict[str, float]:
        """By route."""
        seconds: defaultdict[str, list[float]] = defaultdict(list)
        for answer in self.answers:
            seconds[answer.route].append(answer.seconds)
        return {route: round(_p99(taken) * 1000, 1) for route, taken in seconds.items()}


def _p99(seconds: Iterable[float]) -> float:
    ordered = sorted(seconds)
    return ordered[min(int(len(ordered) * 0.99), len(ordered) - 1)]
