"""Worker groups of a training keep off nodes that take no new work, at their first start and at every restart."""

from __future__ import annotations

from ray.train import ScalingConfig
from ray.train.v2._internal.execution.callback import ControllerCallback

from platformops.on_ray.avoiding import avoided, selector


class KeepOff(ControllerCallback):  # type: ignore[misc]  # Ray's class is untyped
    """Runs in Ray's Train controller; which nodes to avoid is asked when a group is about to start."""

    def on_controller_start_worker_group(
        self, *, scaling_config: ScalingConfig, num_workers: int
    ) -> dict[str, str] | None:
        return selector(avoided()) or None
