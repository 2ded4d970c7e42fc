"""What `run` and `up` share: carry out the plan of a spec, and register the model that comes out."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, cast

from platformops.cli import settings
from platformops.cli.cluster import ClusterOnDemand, OnClusterLauncher
from platformops.cli.planning import Planned, planned
from platformops.clock import Clock
from platformops.delivery.records import GateResult
from platformops.home import Home
from platformops.keeper import errands
from platformops.pipeline.records import Progress, RunResult, RunState
from platformops.registry.records import Lineage, ModelVersion
from platformops.spec.environments import PRODUCTION
from platformops.spec.types import PlatformSpec
from platformops.store.artifacts import Artifacts
from platformops.store.records import JsonObject, Store

if TYPE_CHECKING:
    from platformops.on_ray.cluster import Cluster

EVALUATE = "evaluate"
ARTIFACT_STAGES = ("prepare", "search", "train", EVALUATE)


@dataclass(frozen=True, slots=True)
class Ran:
    planned: Planned
    result: RunResult
    version: ModelVersion | None
    """None for pipelines without a model, and for runs that did not succeed."""


@dataclass(frozen=True, slots=True)
class Session:
    """What a command works with."""

    where: Home
    store: Store
    clock: Clock
    artifacts: Artifacts
    show: Callable[[Progress], None]
    cluster: ClusterOnDemand
    cancelled: threading.Event


@contextmanager
def session(
    where: Home, store: Store, clock: Clock, show: Callable[[Progress], None], *, arguments: Sequence[str]
) -> Iterator[Session]:
    """Everything a command needs, with Ctrl-C and SIGTERM turned into an orderly cancellation.

    `arguments` are those of the command, with absolute paths: by them the keeper finishes what a killed process leaves.
    """
    artifacts = Artifacts(where.artifacts_url, cache=where.cache)
    kept = {name: os.environ[name] for name in errands.KEPT_NAMES if os.environ.get(name)}
    errand = errands.Errand(tuple(arguments), os.getcwd(), kept)
    taken_up = os.environ.pop(errands.TAKEN_UP, "")
    with errands.on_errand(where.errands, errand, taken_up=taken_up) as file, _cancellation(file) as cancelled:
        cluster = ClusterOnDemand(where, store, clock, show)
        yield Session(where, store, clock, artifacts, show, cluster, cancelled)


def carry_out(
    spec: Path,
    overrides: Sequence[str] | None,
    s: Session,
    *,
    parallel: int = 2,
    verify: Sequence[str] = (),
    is_served: bool = False,
    environment: str = PRODUCTION,
    until: str = "",
) -> Ran:
    """The run of the spec's plan; its evaluated model is registered, exactly once however often this is called.

    `until` ends it after a stage, with those that it needs. Raises ClusterError before the first step of a spec that
    the cluster can never carry out (or serve, if it will be), and GateRefused there for a tree that may not be served.
    """
    from platformops.cli.origins import check_origin
    from platformops.pipeline.identity import FileIdentity
    from platformops.pipeline.plan import plan_until
    from platformops.pipeline.process import this_owner
    from platformops.pipeline.runner import run_plan

    made = planned(spec, overrides, store=s.store, clock=s.clock, environment=environment)
    if until:
        made = replace(made, plan=plan_until(made.plan, until))
    if is_served:
        check_origin(made, environment, s)
    launcher = OnClusterLauncher(s.cluster, s.clock, check=partial(check_demand_on, made.spec, is_served=is_served))
    try:
        result = run_plan(
            made.plan,
            store=s.store,
            artifacts=s.artifacts,
            home=s.where,
            clock=s.clock,
            launcher=launcher,
            owner=this_owner(),
            root=made.root,
            identity=FileIdentity(root=made.root, data_root=settings.data_root(), store=s.store, clock=s.clock),
            on_progress=s.show,
            cancelled=s.cancelled,
            parallel=parallel,
            verify=verify,
        )
    finally:
        launcher.close()
    ran = Ran(made, result, _registered(made, result, s) if result.state is RunState.SUCCEEDED else None)
    _trace(result, s)
    return ran


def _trace(result: RunResult, s: Session) -> None:
    """Sends the trace of a run that has ended, where the environment wants it; no run fails for its trace."""
    from platformops.cli import run_traces

    try:
        is_sent = run_traces.send(settings.traces(), s.where.logs / f"{result.run_id}.jsonl", result.run_id)
        why = "" if is_sent else "nobody takes it at OTEL_EXPORTER_OTLP_ENDPOINT"
    except Exception as error:  # whatever a library of others makes of the environment
        why = f"{type(error).__name__}: {error}"
    if why:
        s.show(Progress("trace", "failed", message=why))


def check_demand_on(spec: PlatformSpec, cluster: Cluster, *, is_served: bool) -> None:
    """Raises ClusterError when `cluster` can never carry `spec` out (or serve it, if it will be)."""
    from platformops.on_ray.demand import check_demand, nodes_of

    check_demand(spec, nodes_of(cluster.address), is_served=is_served)


def _registered(made: Planned, result: RunResult, s: Session) -> ModelVersion | None:
    steps = {step.stage.name: step for step in made.plan.steps}
    if made.spec.app is None or EVALUATE not in steps:
        return None
    from platformops.registry.registry import find_by_fingerprint, register

    fingerprint = steps[EVALUATE].fingerprint
    known = find_by_fingerprint(s.store, fingerprint, model=made.spec.system)
    if known is not None:
        return known
    summaries = {step.name: step.summary for step in result.steps}
    return register(
        s.store,
        model=made.spec.system,
        fingerprint=fingerprint,
        artifacts={
            step.name: {"fingerprint": step.fingerprint, "manifest_digest": step.manifest_digest}
            for step in result.steps
            if step.name in ARTIFACT_STAGES
        },
        metrics=summaries[EVALUATE],
        params={
            "purpose": made.spec.purpose,
            "train": made.spec.train.model_dump(mode="json"),
            "found": summaries.get("search", {}),
            "training": summaries["train"],
            "data": summaries["prepare"],
        },
        lineage=_lineage(made, result),
        now=s.clock.now(),
    )


def _lineage(made: Planned, result: RunResult) -> Lineage:
    from platformops.cli.revision import provenance_in

    tree = provenance_in(made.root)
    sources = {source: digest for step in made.plan.steps for source, digest in step.key.sources.items()}
    fingerprints = {step.stage.name: step.fingerprint for step in made.plan.steps}
    return Lineage(sources, fingerprints, result.run_id, tree.revision, bool(tree.unclean), tree)


def run_document(ran: Ran, *, endpoint: str | None, gates: Sequence[GateResult], reason: str = "") -> JsonObject:
    """The object that `run --json` and `up --json` end with."""
    failures = "; ".join(step.reason for step in ran.result.steps if step.failure)
    return {
        "run_id": ran.result.run_id,
        "state": ran.result.state.value,
        "steps": [
            {
                **{"name": step.name, "state": step.state.value, "cached": step.cached},
                **{"seconds": round(step.seconds, 3), "fingerprint": step.fingerprint},
            }
            for step in ran.result.steps
        ],
        "model_version": ran.version.number if ran.version else None,
        "metrics": ran.version.metrics if ran.version else {},
        "endpoint": endpoint,
        "gates": [{"name": g.name, "passed": g.passed, "reason": g.reason} for g in gates],
        "reason": reason or ran.result.reason or failures,
    }


def print_gates(gates: Sequence[GateResult]) -> None:
    """The table of gates, each with its figure and limit."""
    from platformops.cli.output import print_table, say

    if gates:
        say()
        print_table(("gate", "state", "why"), [(g.name, "passed" if g.passed else "refused", g.reason) for g in gates])


def print_run(ran: Ran) -> None:
    """The table of stages, and what the model is worth."""
    from platformops.cli.output import print_table, say, seconds_text

    rows = [
        (step.name, step.state.value, "yes" if step.cached else "no", seconds_text(step.seconds), step.reason)
        for step in ran.result.steps
    ]
    print_table(("stage", "state", "cached", "time", "note"), rows)
    if ran.version is not None:
        metrics = ran.version.metrics
        shown = (("accuracy", "accuracy"), ("precision_macro", "macro precision"), ("recall_macro", "macro recall"))
        figures = ", ".join(f"{title} {metrics[key]:.4f}" for key, title in shown if key in metrics)
        say(f"\n{ran.version.name}: test {figures}")


def artifact_file(ran: Ran, stage: str, pattern: str, s: Session) -> Path | None:
    """A file of a stage's verified artifact, by pattern; None when the version has none."""
    if ran.version is None or stage not in ran.version.artifacts:
        return None
    place = cast(Mapping[str, str], ran.version.artifacts[stage])
    folder = s.artifacts.open(place["fingerprint"], place["manifest_digest"])
    return next(iter(sorted(folder.glob(pattern))), None)


@contextmanager
def _cancellation(errand: Path) -> Iterator[threading.Event]:
    """Set by the first Ctrl-C or SIGTERM; a second one ends the process at once. Neither leaves an errand behind."""
    cancelled = threading.Event()

    def on_signal(number: int, _: FrameType | None) -> None:
        errand.unlink(missing_ok=True)
        if cancelled.is_set():
            os._exit(128 + number)
        cancelled.set()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield cancelled
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
