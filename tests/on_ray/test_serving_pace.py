"""The pace of calls by revision and node: of what came since the last look, over all gateways."""

import pytest

from platformops.delivery.evidence import Tallies, Tally, bucket_of
from platformops.on_ray.serving_pace import FEWEST_CALLS, ServingPace


def counted(*calls, source="g1"):
    """(revision, node, milliseconds, calls so far) of one gateway."""
    revisions = {}
    for revision, node, ms, count in calls:
        revisions.setdefault(revision, {})[node] = Tally(latencies={bucket_of(ms): count})
    return Tallies(source, revisions)


def test_the_median_is_of_what_came_since_the_last_look():
    pace = ServingPace()
    assert pace.look([counted(("r1", "a", 10.0, 100))]) == {"r1": {"a": pytest.approx(0.010, rel=0.05)}}
    assert pace.look([counted(("r1", "a", 10.0, 100))]) == {}, "nothing new"
    slower = Tallies("g1", {"r1": {"a": Tally(latencies={bucket_of(10.0): 100, bucket_of(300.0): 60})}})
    assert pace.look([slower]) == {"r1": {"a": pytest.approx(0.300, rel=0.05)}}


def test_gateways_add_up_and_one_that_begins_anew_starts_from_nothing():
    pace, half = ServingPace(), FEWEST_CALLS // 2
    assert pace.look([counted(("r1", "a", 10.0, half)), counted(("r1", "a", 10.0, half), source="g2")])["r1"]["a"] > 0
    assert pace.look([counted(("r1", "a", 10.0, FEWEST_CALLS), source="g3")])["r1"]["a"] > 0


def test_few_calls_and_nodes_that_nobody_names_say_nothing():
    assert ServingPace().look([counted(("r1", "a", 10.0, FEWEST_CALLS - 1), ("r1", "", 10.0, 500))]) == {}
