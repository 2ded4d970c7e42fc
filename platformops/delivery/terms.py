"""What a rollout is judged by: the spec's `release` section in plain numbers, fixed when the release is asked for."""

from __future__ import annotations

from dataclasses import dataclass, fields

from platformops.delivery.evidence import bucket_of, buckets_in
from platformops.delivery.ledger import Tolerances
from platformops.spec.conditions import duration_s, percent
from platformops.spec.types import PlatformSpec
from platformops.store.records import JsonObject

TOLERATED_SHARE = 1 / 3
"""Of the latency margin: a candidate this much slower is not called harmful, as no two deployments are equally fast."""


@dataclass(frozen=True, slots=True)
class Terms:
    """Ratios are differences between candidate and stable; durations are of one step."""

    false_alarm_ratio: float = 0.05
    """Of releases that are not harmful, those that may be stopped as such: of all guards together, at any time."""
    missed_ratio: float = 0.01
    """Of releases that are harmful beyond a margin, those that may pass its guard."""
    errors_margin: float = 0.005
    """Share of requests that fail in addition."""
    latency_margin: float = 0.15
    """By how much the median may be longer."""
    disagreement_margin: float = 0.02
    """Share of inputs with another label, beyond what the test rows let expect."""
    quality_margin: float = 0.02
    slo_ms: float = 250.0
    min_bake_s: float = 30.0
    max_bake_s: float = 3600.0
    patience_s: float = 86_400.0
    """A step that is neither passed nor approved in this time gives the traffic back."""
    keep_warm_s: float = 7200.0
    """How long the revision that was replaced goes on running, for a rollback that takes no time."""
    watch_s: float = 7200.0
    """How long a promoted version is watched."""
    rolls_back: bool = True
    """Whether harm that begins in this time sends it back, rather than raising an alarm."""
    passes_unproven: bool = False
    """Whether a step is passed at `max_bake_s` without an alarm, and without proof."""
    halts: bool = False
    """Whether harm keeps the candidate running without traffic, rather than ending the rollout."""
    approvers: tuple[str, ...] = ()
    """One of these must approve before the candidate has traffic; nobody need when empty."""

    @property
    def tolerances(self) -> Tolerances:
        return Tolerances(
            latency_buckets=max(1, buckets_in(self.latency_margin * TOLERATED_SHARE)),
            margin_buckets=max(2, buckets_in(self.latency_margin)),
            slo_bucket=bucket_of(self.slo_ms),
        )


_NAMES = tuple(f.name for f in fields(Terms))


def terms_of(spec: PlatformSpec, environment: str = "production") -> Terms:
    """The terms on which `spec` wants its candidates released into `environment`."""
    release, approvers = spec.release, spec.environments.get(environment)
    return Terms(
        false_alarm_ratio=percent(release.false_alarms),
        errors_margin=percent(release.margins.errors),
        latency_margin=percent(release.margins.latency),
        disagreement_margin=percent(release.margins.disagreement),
        quality_margin=percent(release.margins.quality),
        slo_ms=spec.serve.slo.p99_ms,
        min_bake_s=duration_s(release.min_bake),
        max_bake_s=duration_s(release.max_bake),
        patience_s=duration_s(release.patience),
        keep_warm_s=duration_s(release.keep_warm),
        watch_s=duration_s(release.watch),
        rolls_back=release.on_degrade == "rollback",
        passes_unproven=release.unproven == "pass",
        halts=release.on_fail == "pause",
        approvers=approvers.approve if approvers else (),
    )


def terms_json(terms: Terms) -> JsonObject:
    plain = {name: getattr(terms, name) for name in _NAMES}
    return {**plain, "approvers": list(terms.approvers)}


def terms_from(doc: JsonObject) -> Terms:
    """Terms as they were stored; what an older version did not write has its default."""
    known = {name: doc[name] for name in _NAMES if name in doc}
    approvers = known.get("approvers", ())
    names = tuple(str(a) for a in approvers) if isinstance(approvers, list | tuple) else ()
    return Terms(**{**known, "approvers": names})  # type: ignore[arg-type]
