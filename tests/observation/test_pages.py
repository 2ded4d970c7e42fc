"""Pages on performance and on a release: all that they are about, escaped, and nothing from elsewhere."""

import re

import pytest

from benchmarks.serving_world import World, observed
from platformops.delivery.records import Decision, GateResult, Revision, Rollout, RolloutState
from platformops.observation import release_page
from platformops.observation.capacity import page as capacity_page
from platformops.observation.capacity.bottleneck import bottleneck
from platformops.observation.capacity.page import PerfPage
from platformops.observation.capacity.records import Load
from platformops.observation.capacity.service import fit_service
from platformops.observation.page import figures, page, table
from platformops.observation.release_page import Side

HOSTILE = '<script>alert("x")</script>'


def is_alone(html):
    return not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//|<script""", html)


@pytest.fixture(scope="module")
def perf():
    points = [observed(World(), Load(1, 64, clients=n), requests=800, seed=n) for n in (1, 8, 64)]
    service = fit_service(points)
    return capacity_page.render(PerfPage(HOSTILE, points, service, bottleneck(points[-1]), 2, 64, "it is bounded"))


def test_a_page_on_performance_has_points_predictions_bottleneck_and_costs(perf):
    for part in ("Measured", "Predicted", "Bottleneck", "Fitted", "99th percentile, 2 replicas", "hot replica"):
        assert part in perf
    assert perf.count("<svg") == 5
    assert is_alone(perf)


def rollout(**changes):
    candidate, stable = Revision("img", 2, 2, "a", "d", 1, 1), Revision("img", 1, 1, "a", "d", 1, 1)
    gates = (GateResult("accuracy", True, "0.97"), GateResult("errors", False, HOSTILE, would_change="fewer errors"))
    fields = {
        "system": "img", "number": 2, "candidate": candidate, "stable": stable, "state": RolloutState.ROLLED_BACK,
        "step": 1, "steps": ("shadow", "100%"), "conditions": {}, "gates": gates, "reason": "it does harm",
        "started_at": 100.0, "changed_at": 160.0,
    }  # fmt: skip
    return Rollout(**{**fields, **changes})


def test_a_page_on_a_release_tells_decisions_in_order_gates_and_both_sides():
    decisions = [
        Decision("img:rollout-2", "rolled back", "it does harm", (), "", 160.0),
        Decision("img:rollout-2", "asked for", "a person", (), "", 100.0),
    ]
    sides = [Side("img-r2", 1200, 30, 9, 10, 1, [(2.0, 5), (4.0, 5)]), Side("img-r1", 1100, 0, 0, 12, 1, [])]
    html = release_page.render(rollout(), decisions, sides)
    assert html.index("asked for") < html.index("rolled back</td>")
    for part in ("60 s", "refused", "fewer errors", "1,200", "1 of 10", "Calls of img-r2"):
        assert part in html
    assert "Calls of img-r1" not in html, "nothing was timed of it"
    assert html.count("<svg") == 1
    assert is_alone(html)


def test_a_release_that_had_no_traffic_has_a_page_without_sides():
    assert "Candidate and stable" not in release_page.render(rollout(gates=()), (), ())


def test_texts_are_escaped_and_what_is_empty_is_left_out():
    html = page(HOSTILE, HOSTILE, [(HOSTILE, table((HOSTILE,), [(HOSTILE,)])), ("nothing", figures([]))])
    assert is_alone(html)
    assert html.count("&lt;script&gt;") == 6
    assert "nothing" not in html
