"""Step seconds of ranks by their heartbeats."""

from platformops.health.nodes import Step
from platformops.on_ray.step_pace import StepPace, slowest_by_node
from platformops.on_ray.stuck import Beat, Section
from platformops.pipeline.records import Owner


def beat(steps, at, *, pid=1, worked_s=0.0, node="n1"):
    owner = Owner("host", "machine", pid, 0)
    return Beat(owner, steps, Section.STEP, 10.0, at=at, steps=steps, worked_s=worked_s, node=node)


def test_a_step_takes_what_lies_between_two_beats():
    pace = StepPace()
    pace.look({0: beat(0, 100.0), 1: beat(0, 500.0)})
    assert pace.step_s == {}
    pace.look({0: beat(10, 101.0), 1: beat(10, 502.0)})
    assert pace.step_s == {0: 0.1, 1: 0.2}


def test_few_steps_say_nothing_yet_and_are_not_lost():
    pace = StepPace()
    pace.look({0: beat(0, 0.0)})
    pace.look({0: beat(3, 3.0)})
    assert pace.step_s == {}
    pace.look({0: beat(6, 9.0)})
    assert pace.step_s == {0: 1.5}


def test_a_rank_that_was_started_anew_is_not_measured_against_its_predecessor():
    pace = StepPace()
    pace.look({0: beat(90, 10.0)})
    pace.look({0: beat(100, 99.0, pid=2)})
    assert pace.step_s == {}
    pace.look({0: beat(110, 100.0, pid=2)})
    assert pace.step_s == {0: 0.1}


def test_what_a_rank_does_itself_is_told_apart_from_its_waiting_by_node():
    pace = StepPace()
    pace.look({0: beat(0, 0.0), 1: beat(0, 0.0), 2: beat(0, 0.0, node="n2")})
    beats = {0: beat(10, 5.0, worked_s=1.0), 1: beat(10, 5.0, worked_s=2.0), 2: beat(10, 5.0, worked_s=4.5, node="n2")}
    pace.look(beats)
    assert pace.step_s == dict.fromkeys(range(3), 0.5)
    assert slowest_by_node(pace.work, beats) == {"n1": (2, Step(10, 0.2)), "n2": (1, Step(10, 0.45))}
    pace.look({2: beat(0, 9.0, pid=2, node="n3")})
    assert slowest_by_node(pace.work, beats) == {"n1": (2, Step(10, 0.2))}, "a new process says nothing yet"
