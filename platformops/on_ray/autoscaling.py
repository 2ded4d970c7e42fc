"""How many replicas a revision should have, by the items in flight rather than by calls, which carry many each.

Serve's controller runs `by_items` from a copy of this module, so it imports nothing of ours.
"""

from __future__ import annotations

import math
from typing import Any

ITEMS, QUEUED = "items", "queued"
"""What a replica records: items it had at once, and items that waited behind them at the gateway."""


def wanted_replicas(items: float, queued: float, *, items_per_replica: float) -> int:
    """Replicas that would hold everything in flight at `items_per_replica` each; at least 1."""
    return max(1, math.ceil((items + queued) / items_per_replica))


def by_items(context: Any) -> tuple[int, dict[str, Any]]:  # noqa: ANN401  Serve's AutoscalingContext
    """Serve's autoscaling policy; bounds and delays are applied by Serve."""
    recorded = context.aggregated_metrics or {}
    items = sum(recorded.get(ITEMS, {}).values())
    # Each replica is told of the same queue, so it counts once.
    queued = max(recorded.get(QUEUED, {}).values(), default=0.0)
    target = context.config.target_ongoing_requests
    return wanted_replicas(items, queued, items_per_replica=target), {}
