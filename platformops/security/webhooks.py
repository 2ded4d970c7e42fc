"""Signed webhooks: what a sender signs, and whether a delivery is what its sender signed.

Two schemes are known: Standard Webhooks (standardwebhooks.com: HMAC-SHA256 over `id.timestamp.body`, so that an old
delivery is told by its time) and GitHub's `X-Hub-Signature-256` (HMAC-SHA256 over the body alone).
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

TOLERANCE_S = 300.0
"""How far a sender's clock may be off, and how long a delivery may be under way."""
MOST_ID_CHARS = 128
_ID, _AT, _SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
_GITHUB = "x-hub-signature-256"


@dataclass(frozen=True, slots=True)
class Genuine:
    """A delivery that its sender signed."""

    replay_key: str
    """Equal for a delivery that comes again."""
    scheme: str


@dataclass(frozen=True, slots=True)
class Forged:
    """A delivery that is not believed, and why."""

    reason: str


def signed_headers(secret: bytes, delivery_id: str, at: float, body: bytes) -> dict[str, str]:
    """The headers of a delivery by Standard Webhooks."""
    timestamp = str(int(at))
    return {_ID: delivery_id, _AT: timestamp, _SIGNATURE: f"v1,{_standard(secret, delivery_id, timestamp, body)}"}


def verified(headers: Mapping[str, str], body: bytes, secret: bytes, *, now: float) -> Genuine | Forged:
    """Whether the sender knew `secret`; `headers` have names in lower case. Compared in constant time."""
    if _SIGNATURE in headers:
        return _by_standard(headers, body, secret, now)
    if _GITHUB in headers:
        expected = "sha256=" + hmac.new(secret, body, sha256).hexdigest()
        if not hmac.compare_digest(expected.encode(), headers[_GITHUB].encode()):
            return Forged("the signature does not match")
        return Genuine(f"github-{sha256(body).hexdigest()}", "github")
    return Forged(f"there is no signature: {_SIGNATURE}, or {_GITHUB}")


def _by_standard(headers: Mapping[str, str], body: bytes, secret: bytes, now: float) -> Genuine | Forged:
    delivery_id, timestamp = headers.get(_ID, ""), headers.get(_AT, "")
    if not 0 < len(delivery_id) <= MOST_ID_CHARS or not delivery_id.isprintable() or not delivery_id.isascii():
        return Forged(f"{_ID} is missing or is not 1 to {MOST_ID_CHARS} printable characters")
    if not timestamp.isascii() or not timestamp.isdecimal() or len(timestamp) > 12:
        return Forged(f"{_AT} is not a time in seconds")
    expected = f"v1,{_standard(secret, delivery_id, timestamp, body)}".encode()
    # A sender that changes its secret sends a signature for each, with spaces between.
    given = headers[_SIGNATURE].split(" ")[:8]
    if not any([hmac.compare_digest(expected, one.encode()) for one in given]):
        return Forged("the signature does not match")
    if abs(now - int(timestamp)) > TOLERANCE_S:
        return Forged(f"it was signed {abs(now - int(timestamp)):.0f} s away from now, more than {TOLERANCE_S:g}")
    return Genuine(f"standard-{sha256(delivery_id.encode()).hexdigest()}", "standard")


def _standard(secret: bytes, delivery_id: str, timestamp: str, body: bytes) -> str:
    signed = f"{delivery_id}.{timestamp}.".encode() + body
    return base64.b64encode(hmac.new(secret, signed, sha256).digest()).decode()
