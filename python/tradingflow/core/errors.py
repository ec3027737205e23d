"""One error tree. Each edge (HTTP, Celery, consumer, engine) has one translator for it.

TradingFlowError
├── InvalidInput          422  the caller can mend it
├── Unauthenticated       401
├── Forbidden             403
├── NotFound              404  also for what belongs to somebody else
├── Conflict              409
├── TooManyRequests       429
├── Refused               409  a policy said no; `code` says which
├── DependencyUnavailable 503  retryable: a server we need does not answer
└── InvariantBroken       500  never expected; somebody must look
"""

from __future__ import annotations

from typing import ClassVar


class TradingFlowError(Exception):
    """Root of every expected failure.

    `code` is a stable snake_case word for programs, `detail` a sentence for people that says what was
    wrong and what is allowed; it never holds a secret. `retryable` means the same call may succeed later.
    """

    status_code: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail

    def as_body(self) -> dict[str, str]:
        """The JSON body every service answers with."""
        return {"error": self.code, "detail": self.detail}


class InvalidInput(TradingFlowError):
    status_code = 422


class Unauthenticated(TradingFlowError):
    status_code = 401


class Forbidden(TradingFlowError):
    status_code = 403


class NotFound(TradingFlowError):
    """Missing, or somebody else's: the caller cannot tell which."""

    status_code = 404

    def __init__(self, what: str, key: object) -> None:
        super().__init__("not_found", f"{what} {key} does not exist")


class Conflict(TradingFlowError):
    status_code = 409


class TooManyRequests(TradingFlowError):
    """`retry_after_s` is sent as the Retry-After header."""

    status_code = 429
    retryable = True

    def __init__(self, code: str, detail: str, retry_after_s: int) -> None:
        super().__init__(code, detail)
        self.retry_after_s = retry_after_s


class Refused(TradingFlowError):
    """A rule of the vault, the executor or the engine said no. Trying again unchanged will not help."""

    status_code = 409


class DependencyUnavailable(TradingFlowError):
    status_code = 503
    retryable = True


class InvariantBroken(TradingFlowError):
    status_code = 500
