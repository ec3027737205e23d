"""Where the services find what they need."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Endpoints:
    """The URLs of the three data services and of the chain; they hold passwords."""

    database_url: str
    redis_url: str
    rabbitmq_url: str
    rpc_url: str

    def __repr__(self) -> str:
        """Without the URLs, so that no password ends up in a log."""
        return "Endpoints(…)"

    def environment(self) -> dict[str, str]:
        """The variables of the settings that lead a service here."""
        return {
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            "RABBITMQ_URL": self.rabbitmq_url,
        }
