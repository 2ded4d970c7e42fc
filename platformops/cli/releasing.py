"""Asks for a release, and watches it until it has ended."""

from __future__ import annotations

from collections.abc import Mapping

from platformops.cli.running import Ran, Session
from platformops.delivery.records import Rollout
from platformops.delivery.rollout import is_running
from platformops.delivery.systems import load_rollout, load_system, request_release
from platformops.errors import Cancelled, ClusterError, StoreConflict
from platformops.pipeline.records import Progress

STAGE = "release"
LOOK_S = 0.2
LONGEST_S = 900.0
"""The rollout has deadlines of its own; past this one nobody is turning the crank."""
CONFLICTS = 5


def release(ran: Ran, s: Session) -> Rollout:
    """The ended rollout of the run's version: promoted, or refused with its reason. Safe to interrupt: it goes on."""
    asked = _asked(ran, s)
    began = s.clock.monotonic()
    rollout: Rollout | None = asked
    while is_running(rollout):
        assert rollout is not None
        elapsed_s = s.clock.monotonic() - began
        s.show(Progress(STAGE, "running", message=f"{rollout.state.value}: {rollout.reason}", elapsed_s=elapsed_s))
        _check_patience(s, elapsed_s, rollout)
        s.clock.sleep(LOOK_S)
        rollout = load_rollout(s.store, asked.system, asked.number)
    assert rollout is not None
    state = "done" if rollout.state.value == "promoted" else "failed"
    message = f"{rollout.state.value}: {rollout.reason}"
    s.show(Progress(STAGE, state, message=message, elapsed_s=s.clock.monotonic() - began))
    return rollout


def _asked(ran: Ran, s: Session) -> Rollout:
    assert ran.version is not None
    _check_replicas(ran, s)
    classes = tuple(str(name) for name in _classes(ran))
    for attempt in range(CONFLICTS):
        try:
            return request_release(s.store, ran.planned.spec, ran.version, classes=classes, now=s.clock.now())
        except StoreConflict:
            if attempt == CONFLICTS - 1:
                raise
    raise AssertionError("the last attempt returns or raises")


def _check_replicas(ran: Ran, s: Session) -> None:
    """Raises ClusterError when other replicas are wanted than run already, and the cluster can never hold them."""
    spec = ran.planned.spec
    system, _ = load_system(s.store, spec.system)
    if system is None or system.stable is None or system.stable.options != spec.serve.model_dump(mode="json"):
        from platformops.on_ray.demand import check_demand, nodes_of

        check_demand(spec, nodes_of(s.cluster.get().address), is_served=True)


def _classes(ran: Ran) -> list[object]:
    assert ran.version is not None
    data = ran.version.params["data"]
    classes = data.get("classes") if isinstance(data, Mapping) else None
    return list(classes) if isinstance(classes, list | tuple) else []


def _check_patience(s: Session, elapsed_s: float, rollout: Rollout) -> None:
    if s.cancelled.is_set():
        raise Cancelled(
            f"{rollout.name} goes on without you ({rollout.state.value})",
            remedy=f"see it: platformops why {rollout.name}",
        )
    if elapsed_s > LONGEST_S:
        raise ClusterError(
            f"{rollout.name} is still {rollout.state.value} after {elapsed_s:.0f} s: {rollout.reason}",
            remedy="see whether the controller runs: platformops status",
        )
