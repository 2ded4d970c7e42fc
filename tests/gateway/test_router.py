"""Weights become shares of traffic, the same key keeps its revision, and old decisions cannot come back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platformops.delivery.records import Route
from platformops.errors import StoreConflict
from platformops.gateway.router import choose, latest, replace

KEYS = [f"request-{n}" for n in range(20_000)]


def route(token=1, **weights):
    return Route("digits", {name.replace("_", "-"): w for name, w in weights.items()}, token)


def test_shares_of_requests_follow_the_weights():
    chosen = [choose(route(stable=90.0, canary=10.0), key) for key in KEYS]
    assert abs(chosen.count("canary") / len(KEYS) - 0.10) < 0.01


def test_a_revision_without_weight_gets_nothing():
    assert {choose(route(stable=100.0, canary=0.0), key) for key in KEYS[:2000]} == {"stable"}


@given(st.floats(0.5, 99.0), st.floats(0.5, 99.0), st.text(max_size=50))
def test_a_rising_weight_only_draws_keys_towards_its_revision(one, other, key):
    low, high = sorted((one, other))
    if choose(route(stable=100 - low, canary=low), key) == "canary":
        assert choose(route(stable=100 - high, canary=high), key) == "canary"


@given(st.text(max_size=50))
def test_the_order_of_weights_does_not_matter(key):
    assert choose(route(a=30.0, b=70.0), key) == choose(route(b=70.0, a=30.0), key)


def test_a_newer_route_replaces_and_an_older_one_is_refused():
    routes = replace(replace({}, route(1, stable=100.0)), route(2, canary=100.0))
    assert routes["digits"].weights == {"canary": 100.0}
    with pytest.raises(StoreConflict, match="token 1"):
        replace(routes, route(1, stable=100.0))


def test_the_same_decision_said_twice_changes_nothing():
    routes = replace({}, route(3, stable=100.0))
    assert replace(routes, route(3, stable=100.0)) is routes


@pytest.mark.parametrize(
    "weights", [{}, {"a": 99.0}, {"a": 150.0, "b": -50.0}, {"a": float("nan")}, {"a": float("inf"), "b": 1.0}]
)
def test_weights_that_are_not_shares_are_refused(weights):
    with pytest.raises(ValueError, match="weights of digits"):
        replace({}, Route("digits", weights, 1))


def test_a_slow_reading_of_the_store_does_not_undo_a_pushed_route():
    pushed = replace({}, route(5, canary=100.0))
    assert latest(pushed, [route(4, stable=100.0)])["digits"].token == 5
    assert latest(pushed, [route(6, stable=100.0)])["digits"].token == 6
    assert latest(pushed, []) == {}


def test_weights_in_the_store_that_make_no_sense_do_not_replace_good_ones():
    good = replace({}, route(5, canary=100.0))
    assert latest(good, [route(6, stable=40.0)]) == good
    assert latest({}, [route(6, stable=40.0)]) == {}
