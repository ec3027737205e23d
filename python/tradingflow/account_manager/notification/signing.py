"""Signed webhooks as receivers know them: Standard Webhooks 1.0 (standardwebhooks.com). Pure.

`webhook-signature` is `v1,` and the base64 of HMAC-SHA256 over `{webhook-id}.{webhook-timestamp}.{body}` under the
secret, which is handed out as `whsec_` and base64. The id stays the same however often a delivery is tried.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from datetime import datetime
from uuid import UUID

SECRET_PREFIX = "whsec_"  # noqa: S105 - the prefix alone
SECRET_BYTES = 32


def new_secret() -> bytes:
    return secrets.token_bytes(SECRET_BYTES)


def shown(secret: bytes) -> str:
    return SECRET_PREFIX + base64.b64encode(secret).decode()


def signed_headers(secret: bytes, delivery_id: UUID, moment: datetime, body: bytes) -> dict[str, str]:
    identity, timestamp = str(delivery_id), str(int(moment.timestamp()))
    content = f"{identity}.{timestamp}.".encode() + body
    signature = base64.b64encode(hmac.new(secret, content, hashlib.sha256).digest()).decode()
    return {"webhook-id": identity, "webhook-timestamp": timestamp, "webhook-signature": f"v1,{signature}"}
