import enum
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platformops.errors import UserError
from platformops.pipeline.fingerprint import canonical, fingerprint
from platformops.pipeline.records import StepKey

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


def key(**changes):
    parts = {"stage": "train", "code": {"a": "1"}, "params": {"epochs": 3}, "parents": {"prepare": "f" * 64}}
    return StepKey(**({**parts, "sources": {"data.csv": "d" * 64}} | changes))


def test_a_fingerprint_is_the_same_today_and_on_every_machine():
    # A change of this value makes every artifact of every user a cache miss: it must be meant.
    assert fingerprint(key()) == "9badca64af31469679ffa019c0f6fdff6d3d2abda70e7358c601e87ea98a144a"


@pytest.mark.parametrize(
    "change",
    [
        {"stage": "other"},
        {"code": {"a": "2"}},
        {"code": {"b": "1"}},
        {"params": {"epochs": 4}},
        {"params": {"epochs": 3.0}},
        {"params": {"epochs": "3"}},
        {"params": {"epochs": True}},
        {"params": {}},
        {"parents": {"prepare": "e" * 64}},
        {"sources": {"data.csv": "c" * 64}},
        {"sources": {}},
    ],
)
def test_a_change_of_any_part_of_the_key_changes_the_fingerprint(change):
    assert fingerprint(key(**change)) != fingerprint(key())


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_the_order_of_mappings_does_not_count(params):
    backwards = dict(reversed(params.items()))
    assert fingerprint(key(params=params)) == fingerprint(key(params=backwards))


@given(JSON, JSON)
def test_two_values_share_their_text_only_when_they_are_the_same(one, other):
    def typed(value):  # 1 == 1.0 == True in Python, and 0.0 == -0.0
        if isinstance(value, list):
            return [typed(inner) for inner in value]
        if isinstance(value, dict):
            return {name: typed(inner) for name, inner in value.items()}
        return (type(value), repr(value))

    assert (canonical(one, at="") == canonical(other, at="")) == (typed(one) == typed(other))


def test_tuples_read_as_lists_because_a_spec_and_its_stored_copy_must_agree():
    assert canonical((1, (2,)), at="") == canonical([1, [2]], at="")


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"lr": math.nan}, "train.lr"),
        ({"lr": [1.0, math.inf]}, "train.lr[1]"),
        ({"a": {"b": {1, 2}}}, "train.a.b"),
        ({"a": object()}, "train.a"),
        ({"a": b"bytes"}, "train.a"),
        ({"a": {1: "x"}}, "train.a.1"),
        ({"a": enum.IntEnum("E", "ONE").ONE}, "train.a"),
        ({"a": len}, "train.a"),
    ],
)
def test_a_value_without_a_stable_text_is_refused_with_its_path(value, path):
    with pytest.raises(UserError) as refused:
        canonical(value, at="train")
    assert refused.value.message.startswith(f"{path}: ")
    assert refused.value.remedy


def test_lone_surrogates_have_a_text_like_any_other_string():
    assert canonical("\ud800", at="") != canonical("\ud801", at="")
