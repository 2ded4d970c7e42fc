"""What the fleet learns of itself: deaths that were foreseen, what remedies saved, predictions that came true."""

from __future__ import annotations

from dataclasses import replace

from platformops.health.calibration import Decided as Outcome
from platformops.health.calibration import learn_outcomes
from platformops.health.hazard import watched
from platformops.health.nodes import Learnt, Member, NodeRecord
from platformops.health.remedy import Remedy
from platformops.health.sight import AWAY, CLASS, is_wanted
from platformops.health.signs import HORIZON_S
from platformops.health.states import NodeState

LEAD_KEPT = 100


def of_death(learnt: Learnt, record: NodeRecord, before: NodeState, now: float) -> Learnt:
    """After a node died that was in the state `before`."""
    had = record.remedy in AWAY
    foreseen = had or before is NodeState.UNHEALTHY
    lead_s = (*learnt.lead_s, now - record.remedy_at)[-LEAD_KEPT:] if had else learnt.lead_s
    return replace(
        learnt,
        deaths=learnt.deaths + 1,
        foreseen=learnt.foreseen + foreseen,
        lead_s=lead_s,
        remedies=learnt.remedies + had,
        right_remedies=learnt.right_remedies + had,
        saved_slot_s=learnt.saved_slot_s + (record.saves if had else 0.0),
    )


def of_prediction(
    learnt: Learnt, record: NodeRecord, member: Member, probability: float, now: float, *, is_dead: bool
) -> tuple[Learnt, NodeRecord]:
    """Failures and exposure of the node, and what became of what was said of it an hour ago; `probability` is what is
    said of it now.

    A node with a remedy in force says nothing about a prediction: that it lives may be the remedy's doing.
    """
    if record.drill:
        return learnt, record
    dies = is_dead and not record.is_dead
    due = record.predicted is not None and now - record.predicted_at >= HORIZON_S
    if dies and not is_wanted(member):
        record = replace(record, history=watched(record.history, now, failures=1))
    if record.predicted is not None and (due or dies) and record.remedy is Remedy.WAIT:
        outcome = Outcome(CLASS, record.predicted, dies)
        learnt = replace(learnt, record=learn_outcomes(learnt.record, [outcome], now))
    if is_dead:
        return learnt, replace(record, predicted=None)
    if record.predicted is None or due:
        record = replace(record, predicted=probability, predicted_at=now)
        record = replace(record, history=watched(record.history, now))
    return learnt, record
