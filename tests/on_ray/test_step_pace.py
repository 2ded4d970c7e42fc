"""Step seconds of ranks by their heartbeats."""

from platformops.on_ray.step_pace import StepPace
from platformops.on_ray.stuck import Beat, Section
from platformops.pipeline.records import Owner


def beat(steps, at, *, pid=1):
    return Beat(Owner("host", "machine", pid, 0), steps, Section.STEP, 10.0, at=at, steps=steps)


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
