"""Standard Webhooks (https://www.standardwebhooks.com): who sent it, when, and that nobody changed it. Pure."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence

from ..settings import secret_key


def headers(secrets: Sequence[str], *, id: str, timestamp: int, body: bytes) -> dict[str, str]:  # noqa: A002
    """The three headers. Each secret signs, so that a receiver that knows the old or the new one accepts it."""
    signed = b".".join((id.encode(), str(timestamp).encode(), body))
    signatures = [
        "v1," + base64.b64encode(hmac.digest(secret_key(secret), signed, hashlib.sha256)).decode() for secret in secrets
    ]
    return {"webhook-id": id, "webhook-timestamp": str(timestamp), "webhook-signature": " ".join(signatures)}
