"""Whatever call of a write is its last, or fails, what was acknowledged is there and nothing is there by half."""

import pytest

from tests.faults import system_calls
from tests.faults.operations.on_store import check_puts, no_store, put_two
from tests.faults.operations.record import Operation
from tests.faults.sweep import Sweep, sampled

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(bool(system_calls.why_not()), reason=system_calls.why_not()),
]
SAMPLE = 150
"""`python -m tests.faults.sweep` takes all of them; each run of this one draws the same."""


def test_a_sample_of_all_file_system_calls_may_be_the_last_or_fail(tmp_path):
    sweep = Sweep(tmp_path)
    points = sweep.points()
    outcomes = [outcome for outcome in sweep.outcomes(sampled(points, SAMPLE, seed=20)) if outcome.was_met]
    assert [f"{outcome.point}: {outcome.problem}" for outcome in outcomes if outcome.problem] == []
    assert len(points) >= 2000
    assert len(outcomes) > SAMPLE * 0.8, "nearly every call is met again where it was counted"


def test_a_product_that_acknowledges_too_early_is_found_out(tmp_path):
    """The sweep itself can fail: a write that is said to be there before it is."""

    def too_early(folder, say):
        say("new/0")
        put_two(folder, say)

    lying = Operation("lying", no_store, too_early, lambda folder, said: check_puts(folder, said, 0))
    sweep = Sweep(tmp_path, [lying])
    points = [point for point in sweep.points() if "openat" in str(point) and "KILL" in str(point)][:2]
    assert ["acknowledged" in outcome.problem for outcome in sweep.outcomes(points)] == [True, True]
