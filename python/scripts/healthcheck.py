#!/usr/bin/env -S python3 -IS
"""Exit 0 when the URL given answers 200, else 1 with what it said. Standard library only: it runs every few seconds."""

import http.client
import sys
from urllib.parse import urlsplit

TIMEOUT_S = 4
SHOWN_BYTES = 500


def check(url: str) -> str | None:
    """None when healthy, else what is wrong."""
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


def main() -> None:
    """Check the URL on the command line."""
    if len(sys.argv) != 2:
        sys.exit("usage: healthcheck URL")
    sys.exit(check(sys.argv[1]))


if __name__ == "__main__":
    main()
