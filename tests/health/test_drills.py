"""The scorecard of node drills: what counts as an answer, what as a false action, and what passes."""

from dataclasses import replace

import pytest

from platformops.cli.drill_node import KINDS
from platformops.delivery.records import Decision
from platformops.health.drills import DRILLS, Sight, Wanted, false_actions, is_answered, not_held, score
from platformops.health.fold import Condition
from platformops.health.hazard import NodeHistory
from platformops.health.nodes import Killed, NodeRecord
from platformops.health.remedy import Remedy
from platformops.health.states import NodeState

RECORD = NodeRecord("n1", "10.0.0.1", Condition(), NodeHistory(0.0), incarnation=1)
BEFORE = Sight(RECORD, epoch=3, heard_s_ago=0.5, seen_at=10.0)
STRUCK_AT = 20.0


def after(**changes):
    sight = {name: changes.pop(name) for name in ("epoch", "heard_s_ago", "seen_at") if name in changes}
    return replace(BEFORE, **{"seen_at": 30.0, **sight}, record=replace(RECORD, **changes))


ANSWERS = {
    Wanted.NEW_PROBE: after(incarnation=2),
    Wanted.WORKER_ENDED: after(killed=(Killed(7, 7),)),
    Wanted.NEW_CONTROLLER: after(epoch=4),
    Wanted.LEFT_ALONE: after(),
    Wanted.WEIGHED_DOWN: after(remedy=Remedy.WEIGH_DOWN),
    Wanted.AVOIDED: after(remedy=Remedy.CORDON),
    Wanted.BARRED: after(condition=Condition(NodeState.BARRED)),
    Wanted.DEAD: after(is_dead=True),
}


@pytest.mark.parametrize("wanted", Wanted)
def test_each_end_is_known_when_it_comes_and_not_taken_for_another(wanted):
    met = {one for one, sight in ANSWERS.items() if is_answered(wanted, BEFORE, sight, STRUCK_AT)}
    harmless = {Wanted.NEW_PROBE, Wanted.WORKER_ENDED, Wanted.NEW_CONTROLLER, Wanted.BARRED}
    assert met == ({wanted} | harmless if wanted is Wanted.LEFT_ALONE else {wanted})


@pytest.mark.parametrize(
    "sight", [after(heard_s_ago=None), after(heard_s_ago=9.0), after(seen_at=STRUCK_AT), after(is_dead=True)]
)
def test_a_node_that_is_not_heard_anew_is_not_yet_left_alone(sight):
    assert not is_answered(Wanted.LEFT_ALONE, BEFORE, sight, STRUCK_AT)


def test_a_node_that_was_dead_before_is_no_answer_to_what_should_kill_it():
    dead = replace(BEFORE, record=replace(RECORD, is_dead=True))
    assert not is_answered(Wanted.DEAD, dead, after(is_dead=True), STRUCK_AT)


def test_a_new_probe_on_a_node_that_was_condemned_is_no_answer():
    assert not is_answered(Wanted.NEW_PROBE, BEFORE, after(incarnation=2, is_dead=True), STRUCK_AT)


def told(node, decision):
    return Decision(node, decision, "because", [], "", 25.0)


def test_what_is_done_to_another_node_or_not_asked_for_is_a_false_action():
    asked = [told("n1", "healthy -> suspect"), told("n1", "suspect -> unhealthy"), told("n1", "cordon")]
    wrong = [told("n2", "cordon"), told("n1", "healthy -> dead")]
    elsewhere = [told("digits:v2", "promoted digits:v2"), told("n2", "healthy -> suspect"), told("n2", "no drain")]
    found = false_actions(Wanted.AVOIDED, [*asked, *wrong, *elsewhere], victims=("n1",), nodes=("n1", "n2"))
    assert found == ("n2: cordon: because", "n1: healthy -> dead: because")


def test_a_drill_passes_in_time_and_with_nothing_else_done():
    assert score("kill", 2.0, (), "").passed
    assert not score("kill", 4.1, (), "").passed
    assert not score("kill", None, (), "").passed
    assert not score("kill", 2.0, ("n2: cordon",), "").passed


def test_a_drill_that_cannot_be_held_says_why_and_has_not_passed():
    told = not_held("partition", "only root can")
    assert (told.passed, told.why_not, told.found_s) == (False, "only root can", None)


def test_every_drill_can_be_asked_for():
    assert set(KINDS) == set(DRILLS)
