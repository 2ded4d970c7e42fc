"""How often one key may ask one system: a token bucket that holds one second of its rate."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bucket:
    tokens: float
    at: float


def take(bucket: Bucket | None, *, rate_per_s: float, now: float) -> tuple[Bucket, float]:
    """The bucket after one request, and the seconds to wait: 0 when the request may pass."""
    size = max(1.0, rate_per_s)
    tokens = size if bucket is None else min(size, bucket.tokens + (now - bucket.at) * rate_per_s)
    if tokens >= 1.0:
        return Bucket(tokens - 1.0, now), 0.0
    return Bucket(tokens, now), (1.0 - tokens) / rate_per_s
