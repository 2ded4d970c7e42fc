"""Worker groups of a training keep off nodes that take no new work, at their first start and at every restart."""

from __future__ import annotations

from collections.abc import Mapping

from ray.train import ScalingConfig
from ray.train.v2._internal.execution.callback import ControllerCallback

from platformops.on_ray.avoiding import selector
from platformops.on_ray.gang_places import gang, node_views, off_limits


class KeepOff(ControllerCallback):  # type: ignore[misc]  # Ray's class is untyped
    """Runs in Ray's Train controller, which asks it each time that a group is about to start."""

    def __init__(self, needs: Mapping[str, float]) -> None:
        self._needs = dict(needs)

    def on_controller_start_worker_group(
        self, *, scaling_config: ScalingConfig, num_workers: int
    ) -> dict[str, str] | None:
        return selector(off_limits(gang("training", self._needs, num_workers), node_views())) or None
