"""Gates on what a candidate did before it had traffic."""

import pytest

from platformops.delivery.records import Rehearsal
from platformops.delivery.rehearsal import fields_of, fields_together, judge

CLASSES = ("cat", "dog")
ANSWER = {
    "label": "cat",
    "probability": 0.9,
    "probabilities": {"cat": 0.9, "dog": 0.1},
    "boxes": [{"x": 1}],
    "top": None,
}
FIELDS = fields_of(ANSWER, CLASSES)


def judged(*, is_exact=True, **seen):
    return {r.name: r for r in judge(Rehearsal(**seen), latency_margin=0.15, is_exact=is_exact)}


def test_the_fields_of_an_answer_have_paths_and_kinds():
    assert FIELDS == {
        "label": "text", "probability": "number", "probabilities.*": "number", "boxes[].x": "number", "top": "null",
    }  # fmt: skip
    assert fields_of("yes", CLASSES) == {".": "text"}
    assert fields_of(True, CLASSES) == {".": "truth"}


def test_a_field_that_is_now_and_then_empty_may_be_either():
    both = fields_together([{"top": "null"}, {"top": "text"}, {"label": "text"}])
    assert both == {"top": "null|text", "label": "text"}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"class": "cat"}, ""),
        ({"label": 3}, "label was text, is number"),
        ({"probabilities": {"cat": "0.9"}}, "probabilities.* was number, is text"),
    ],
    ids=["new field", "other kind", "other kind of many"],
)
def test_answers_must_be_readable_as_stables(changed, said):
    result = judged(fields=fields_of({**ANSWER, **changed}, CLASSES), stable_fields=FIELDS)["schema"]
    assert result.passed is not bool(said)
    assert said in result.reason


def test_a_field_that_is_gone_is_named():
    fewer = {k: v for k, v in ANSWER.items() if k != "label"}
    result = judged(fields=fields_of(fewer, CLASSES), stable_fields=FIELDS)["schema"]
    assert not result.passed
    assert "label is missing" in result.reason
    assert result.evidence["lost"] == ["label"]


def test_what_did_not_take_place_has_no_result():
    assert judged() == {}
    assert judged(fields=FIELDS) == {}, "a first release has nothing to agree with"


def test_rows_that_are_made_other_numbers_than_in_training_are_refused_unless_parity_has_a_tolerance():
    assert judged(transformed=64)["transform"].passed
    seen = {"transformed": 64, "differing": ("row 3", "row 9")}
    refused = judged(**seen)["transform"]
    assert not refused.passed
    assert "2 of 64 rows" in refused.reason
    assert judged(is_exact=False, **seen)["transform"].passed


def loaded(slower, pairs=240, **seen):
    return judged(asked=240, answered=240, pairs=pairs, slower=slower, p99_ms=9.0, **seen)["latency_under_load"]


@pytest.mark.parametrize(("slower", "passed"), [(0, True), (120, True), (140, True), (200, False), (240, False)])
def test_slower_than_stable_at_the_same_time_is_refused_only_beyond_doubt(slower, passed):
    result = loaded(slower)
    assert result.passed is passed
    assert f"{slower} of 240 took more than 15% longer" in result.reason


def test_every_request_under_load_must_be_answered():
    result = judged(asked=240, answered=239, problem="HTTP 503", p99_ms=3.0)["latency_under_load"]
    assert not result.passed
    assert "HTTP 503" in result.reason
    assert judged(asked=240, answered=240, p99_ms=3.0)["latency_under_load"].passed, "with nothing to compare"


@pytest.mark.parametrize(
    ("memory", "passed"), [((300, 301), True), ((300, 308), True), ((300, 330), False), ((20, 24), True)]
)
def test_memory_that_goes_on_rising_under_the_same_load_is_a_leak(memory, passed):
    mib = tuple(m * 2**20 for m in memory)
    assert judged(memory_bytes=mib)["memory_under_load"].passed is passed
