"""What must be so for a system in its present state: its route, what runs, what is marked, and how that looks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from platformops.delivery.records import (
    Action,
    DeployRevision,
    MarkVersion,
    RemoveRevision,
    Revision,
    RevisionState,
    RevisionStatus,
    Rollout,
    RolloutKind,
    RolloutState,
    Route,
    SetAlias,
    SetRoute,
    System,
)
from platformops.delivery.rollout import DEPLOYED, is_running, shadow, weights
from platformops.registry.records import Alias, Verdicts
from platformops.store.records import JsonObject

ABSENT = RevisionStatus(RevisionState.ABSENT)
_JUDGED = frozenset({RolloutState.PROMOTED, RolloutState.REFUSED, RolloutState.ROLLED_BACK})
NOBODY = 0
"""Token of an alias that does not exist."""
REDEPLOY_S = 30.0
"""A stable revision that failed is started afresh this long after it was deployed; Serve itself never does that."""
DRAIN_MARGIN_S = 5.0
"""Beyond a request's time limit: routers on other nodes learn of a route a moment later."""
TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Observed:
    """What the edge sees of one system."""

    revisions: Mapping[str, RevisionStatus]
    """Deployed revisions by name, of this system only."""
    token: int | None
    """Of the route that the router follows; None when it has none, or cannot be asked."""
    aliases: Mapping[str, Alias]
    """By name, of the candidate's model."""
    verdicts: Verdicts
    """On the version that the last rollout judged."""


def settled(system: System, rollout: Rollout | None, *, token: int) -> System:
    """The system as it must be recorded beside `rollout`; a changed route gets `token`."""
    if system.wanted != "up":
        return replace(system, route=None)
    if rollout is None:
        return system
    if rollout.state is RolloutState.PROMOTED and system.stable != rollout.candidate:
        new = rollout.candidate
        system = replace(system, stable=new, serve=new.options, classes=new.classes)
    if follows(system.route, rollout):
        return system
    share = weights(rollout)
    return replace(system, route=Route(system.name, share, token, shadow(rollout)) if share else None)


def follows(route: Route | None, rollout: Rollout) -> bool:
    """Whether a route is the one of the rollout's state."""
    return route is not None and dict(route.weights) == dict(weights(rollout)) and route.shadow == shadow(rollout)


def upkeep(system: System, rollout: Rollout | None, observed: Observed, now: float) -> tuple[Action, ...]:
    """The actions that make the world be as the settled `system` and `rollout` say."""
    actions: list[Action] = []
    if (
        system.wanted == "up"
        and system.stable
        and _needs_deploy(observed.revisions.get(system.stable.name, ABSENT), now)
    ):
        actions.append(DeployRevision(system.stable))
    if system.route and (observed.token is None or observed.token < system.route.token):
        actions.append(SetRoute(system.route))
    actions += [*_aliases(system, rollout, observed), *_verdicts(rollout, observed)]
    kept = keep(system, rollout, now)
    actions += [RemoveRevision(name) for name in sorted(observed.revisions) if name not in kept]
    return tuple(actions)


def keep(system: System, rollout: Rollout | None, now: float) -> frozenset[str]:
    """Names of the revisions that may run: stable, the candidate, and what still answers its last requests."""
    if system.wanted != "up":
        return frozenset()
    kept = [system.stable]
    if rollout and rollout.state in DEPLOYED:
        kept.append(rollout.candidate)
    if rollout and (leaving := _leaving(rollout)) and now - rollout.changed_at < leaves_after_s(rollout, leaving):
        kept.append(leaving)
    return frozenset(revision.name for revision in kept if revision)


def drain_s(revision: Revision) -> float:
    """Seconds after which no request can be in flight on a revision that takes no new ones."""
    timeout_s = revision.options.get("timeout_s", TIMEOUT_S)
    return (timeout_s if isinstance(timeout_s, int | float) else TIMEOUT_S) + DRAIN_MARGIN_S


def leaves_after_s(rollout: Rollout, leaving: Revision) -> float:
    """Seconds that a revision goes on running without traffic: what was replaced by a release stays warm, so that the
    way back takes no time; what was sent back only answers what it has."""
    stays_warm = rollout.state is RolloutState.PROMOTED and rollout.kind is RolloutKind.RELEASE
    return max(drain_s(leaving), rollout.terms.keep_warm_s if stays_warm else 0.0)


def _leaving(rollout: Rollout) -> Revision | None:
    """The revision that lost its traffic when the rollout ended."""
    if rollout.state is RolloutState.PROMOTED:
        return rollout.stable
    return rollout.candidate if rollout.state is RolloutState.ROLLED_BACK else None


def _needs_deploy(seen: RevisionStatus, now: float) -> bool:
    failed = seen.state is RevisionState.FAILED and now - seen.deployed_at > REDEPLOY_S
    return seen.state is RevisionState.ABSENT or failed


def _aliases(system: System, rollout: Rollout | None, observed: Observed) -> tuple[SetAlias, ...]:
    """`champion` is what is stable; `candidate` what was last offered, whatever became of it."""
    is_offered = rollout is not None and rollout.kind is not RolloutKind.DRILL
    wanted = {"champion": system.stable, "candidate": rollout.candidate if rollout and is_offered else None}
    return tuple(
        SetAlias(revision.model, alias, revision.version, expect=seen.token if seen else NOBODY)
        for alias, revision in wanted.items()
        if revision and ((seen := observed.aliases.get(alias)) is None or seen.number != revision.version)
    )


def _verdicts(rollout: Rollout | None, observed: Observed) -> tuple[MarkVersion, ...]:
    """What the last release of a version found out, or the watch over it; an aborted one found out nothing, nor one
    that met a bad node, nor a drill."""
    if rollout is None or rollout.state not in _JUDGED or rollout.kind is RolloutKind.DRILL or rollout.node:
        return ()
    failed = tuple(g.name for g in rollout.gates if not g.passed)
    if rollout.kind is RolloutKind.ROLLBACK and not failed:
        return ()
    harmed = rollout.state is RolloutState.ROLLED_BACK and not failed
    found = Verdicts(("traffic",) if harmed else failed, rollout.reason, {"rollout": rollout.name})
    version = judged(rollout)
    return () if found == observed.verdicts else (MarkVersion(version.model, version.version, found),)


def judged(rollout: Rollout) -> Revision:
    """The revision that a rollout's verdict is on: a rollback's is on what was left."""
    is_back = rollout.kind is RolloutKind.ROLLBACK and rollout.stable is not None
    return rollout.stable if is_back and rollout.stable else rollout.candidate


def status(system: System, rollout: Rollout | None, observed: Observed) -> JsonObject:
    """One system as `platformops status` shows it."""
    name = system.stable.name if system.stable else None
    seen = observed.revisions.get(name or "", ABSENT)
    return {
        "name": system.name,
        "state": _state(system, rollout, observed, seen),
        "revision": name,
        "model_version": system.stable.version_name if system.stable else None,
        "weights": dict(system.route.weights) if system.route else {},
        "replicas": {"ready": seen.ready, "wanted": seen.wanted},
        "reason": seen.reason or (rollout.reason if rollout else ""),
        "rollout": _rollout_status(rollout) if rollout else None,
    }


def _rollout_status(rollout: Rollout) -> JsonObject:
    return {
        "name": rollout.name,
        "state": rollout.state.value,
        "candidate": rollout.candidate.version_name,
        "step": rollout.steps[rollout.step],
    }


def _state(system: System, rollout: Rollout | None, observed: Observed, seen: RevisionStatus) -> str:
    if system.wanted != "up":
        return "stopping" if observed.revisions else "down"
    if system.stable is None:
        return "releasing" if is_running(rollout) else "empty"
    if seen.state is RevisionState.READY and system.route and observed.token == system.route.token:
        return "live"
    return "failed" if seen.state is RevisionState.FAILED else "starting"
