"""Passwords of the local servers: random, made once, kept in a file only their owner reads."""

import os
import secrets
from pathlib import Path


def local_password(file: Path, size_bytes: int = 16) -> str:
    """The password kept in this file, as hex digits; made the first time."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(secrets.token_hex(size_bytes))
    return file.read_text()
