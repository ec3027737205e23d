#!/usr/bin/env -S python3 -IS
"""healthcheck URL | broker - exit 0 when well, else 1 with what is wrong.

URL     it answers 200
broker  a connection to RabbitMQ is established: for Celery, which has no port to ask

Standard library only and nothing of ours: it runs every few seconds in every container.
"""

import http.client
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

TIMEOUT_S = 4
SHOWN_BYTES = 500
AMQP_PORT = 5672
ESTABLISHED = "01"
CONNECTION_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))


def check_url(url: str) -> str | None:
    """None when it answers 200, else what it said."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", parts.path)
        answer = connection.getresponse()
        body = answer.read(SHOWN_BYTES).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return f"{url}: {type(error).__name__}: {error}"
    finally:
        connection.close()
    return None if answer.status == 200 else f"{url}: {answer.status} {body}"


def check_broker() -> str | None:
    """None when this container holds a connection to the broker's port."""
    port = urlsplit(os.environ.get("RABBITMQ_URL", "")).port or int(os.environ.get("RABBITMQ_PORT") or AMQP_PORT)
    tables = [table.read_text() for table in CONNECTION_TABLES if table.exists()]
    if any(is_connected_to(port, table) for table in tables):
        return None
    return f"no connection to RabbitMQ on port {port}"


def is_connected_to(port: int, table: str) -> bool:
    """Whether a table as in /proc/net/tcp (sl local remote state …) has an established connection to that port."""
    rows = (line.split() for line in table.splitlines()[1:])
    return any(row[2].endswith(f":{port:04X}") and row[3] == ESTABLISHED for row in rows)


def main() -> None:
    """Check what the command line names."""
    if len(sys.argv) != 2:
        sys.exit("usage: healthcheck URL | broker")
    sys.exit(check_broker() if sys.argv[1] == "broker" else check_url(sys.argv[1]))


if __name__ == "__main__":
    main()
