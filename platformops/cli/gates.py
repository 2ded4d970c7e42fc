"""What the gates say of a version, before anybody asks for a release."""

from __future__ import annotations

from collections.abc import Sequence

from platformops.cli.running import Ran, Session
from platformops.delivery.records import GateResult


def judged(ran: Ran, s: Session) -> Sequence[GateResult]:
    """The results of the version's last rollout; without one, those of the gates that need no endpoint."""
    if ran.version is None:
        return ()
    from platformops.delivery.systems import conditions_of, rollouts

    system, wanted = ran.planned.spec.system, conditions_of(ran.planned.spec)
    for rollout in rollouts(s.store, system, limit=20):
        if rollout.candidate.version == ran.version.number and dict(rollout.conditions) == wanted:
            return rollout.gates
    return _offline(ran, s)


def _offline(ran: Ran, s: Session) -> Sequence[GateResult]:
    from platformops.delivery.gate import judge_offline
    from platformops.delivery.records import Rollout, RolloutState
    from platformops.delivery.systems import candidate_of, conditions_of, load_system
    from platformops.on_ray.examination import evaluate

    assert ran.version is not None
    spec = ran.planned.spec
    system, _ = load_system(s.store, spec.system)
    asked = Rollout(
        system=spec.system,
        number=0,
        candidate=candidate_of(spec, ran.version, (), number=0),
        stable=system.stable if system else None,
        state=RolloutState.PENDING,
        step=0,
        steps=spec.release.steps,
        conditions=conditions_of(spec),
        gates=(),
        reason="",
        started_at=0.0,
        changed_at=0.0,
    )
    return judge_offline(asked.conditions, evaluate(asked, s.artifacts))
