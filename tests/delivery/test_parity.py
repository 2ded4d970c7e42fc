"""Parity of live answers and offline evaluation: rounding passes, wrong preprocessing does not."""

import numpy as np
import pytest

from platformops.delivery.parity import EXACT, Answer, compare, judge

CLASSES = ("cat", "dog", "emu")
IDS = ("r1", "r2")
OFFLINE = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]], dtype=np.float32)


def live(probabilities, labels=None):
    rows = np.asarray(probabilities, dtype=float)
    names = labels or [CLASSES[int(r.argmax())] for r in rows]
    return [Answer(n, dict(zip(CLASSES, r, strict=True))) for n, r in zip(names, rows, strict=True)]


def test_the_same_answers_have_parity():
    report = compare(IDS, CLASSES, OFFLINE, live(OFFLINE))
    assert report.largest == pytest.approx(0, abs=1e-7)
    assert judge(report, 0.0).passed


def test_rounding_passes_and_a_shifted_probability_is_refused_by_row_and_amount():
    moved = OFFLINE.copy()
    moved[1] += [1e-5, 0, -1e-5]
    assert judge(compare(IDS, CLASSES, OFFLINE, live(moved)), 0.0).passed
    moved[1] += [0.01, 0, -0.01]
    result = judge(compare(IDS, CLASSES, OFFLINE, live(moved)), 0.0)
    assert not result.passed
    assert "row r2" in result.reason
    assert result.evidence["short_by"] == pytest.approx(0.01001 - EXACT, abs=1e-4)


def test_permuted_labels_are_refused():
    permuted = [Answer("dog", {"dog": 0.7, "cat": 0.2, "emu": 0.1}), *live(OFFLINE)[1:]]
    report = compare(IDS, CLASSES, OFFLINE, permuted)
    assert report.other_labels == ("row r1: cat offline, dog live",)
    assert not judge(report, 0.0).passed


def test_a_wrong_label_with_right_probabilities_is_refused():
    report = compare(IDS, CLASSES, OFFLINE, live(OFFLINE, ["dog", "emu"]))
    result = judge(report, 0.0)
    assert not result.passed
    assert "cat offline, dog live" in result.reason


def test_a_tie_may_fall_either_way():
    tie = np.array([[0.4501, 0.4499, 0.1]], dtype=np.float32)
    report = compare(["t"], CLASSES, tie, live([[0.4499, 0.4501, 0.1]]))
    assert report.other_labels == ()
    assert judge(report, 0.0).passed


def test_a_stated_tolerance_replaces_exactness():
    moved = OFFLINE + np.array([[0.004, -0.004, 0], [0, 0, 0]], dtype=np.float32)
    report = compare(IDS, CLASSES, OFFLINE, live(moved))
    assert not judge(report, 0.0).passed
    assert judge(report, 0.01).passed
    assert not judge(report, 0.001).passed


@pytest.mark.parametrize("probabilities", [{}, {"cow": 0.7}, {"cat": float("nan")}])
def test_an_answer_that_cannot_be_compared_counts_as_wholly_different(probabilities):
    report = compare(["r1"], CLASSES, OFFLINE[:1], [Answer("cat", probabilities)])
    assert report.largest == 1.0


def test_only_the_classes_that_were_answered_are_compared():
    report = compare(["r1"], CLASSES, OFFLINE[:1], [Answer("cat", {"cat": 0.7})])
    assert judge(report, 0.0).passed


def test_no_row_is_no_parity():
    assert not judge(compare([], CLASSES, OFFLINE[:0], []), 0.0).passed
    assert not judge(None, 0.0).passed
