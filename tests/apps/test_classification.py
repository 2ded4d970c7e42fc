"""The classifier's figures against scikit-learn, and the bootstrap against what is known exactly."""

import json

import numpy as np
import pytest
from sklearn import metrics as reference

from platformops.apps.classification import Predictions, are_paired, differences, figures, reliability, score
from platformops.errors import DataRefused

NAMES = ("cat", "dog", "emu", "fox")


def answers(rows, classes=4, seed=0, skill=1.5, labels=None):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, rows) if labels is None else labels
    scores = rng.normal(size=(rows, classes))
    scores[np.arange(rows), labels] += skill
    exp = np.exp(scores)
    return (exp / exp.sum(axis=1, keepdims=True)).astype(np.float32), labels


def predictions(rows, seed=0, skill=1.5, ids=None, truth_seed=9):
    labels = np.random.default_rng(truth_seed).integers(0, 4, rows)
    outputs, _ = answers(rows, seed=seed, skill=skill, labels=labels)
    return Predictions(np.array(ids or [f"row{i}" for i in range(rows)]), labels, outputs, NAMES)


def accuracy(predictions):
    return (predictions.probabilities.argmax(axis=1) == predictions.labels).mean()


def test_figures_equal_those_of_scikit_learn():
    outputs, labels = answers(500)
    got, said = score(outputs, labels, NAMES), outputs.argmax(axis=1)
    assert got["accuracy"] == pytest.approx(reference.accuracy_score(labels, said))
    assert got["log_loss"] == pytest.approx(reference.log_loss(labels, outputs), rel=1e-5)
    for name, function in (("precision", reference.precision_score), ("recall", reference.recall_score),
                           ("f1", reference.f1_score)):  # fmt: skip
        assert got[f"{name}_macro"] == pytest.approx(function(labels, said, average="macro"))
        per_class = function(labels, said, average=None)
        assert [got["per_class"][n][name] for n in NAMES] == pytest.approx(list(per_class))
    assert got["confusion"] == reference.confusion_matrix(labels, said).tolist()
    assert got["brier"] == pytest.approx(((outputs - np.eye(4)[labels]) ** 2).sum(axis=1).mean(), rel=1e-5)
    json.dumps(got, allow_nan=False)


def test_a_class_without_test_rows_has_no_recall_and_does_not_move_the_mean():
    labels = np.array([0, 0, 1, 1, 1])
    outputs = np.eye(4, dtype=np.float32)[[0, 1, 1, 1, 2]]
    got = score(outputs, labels, NAMES)
    said = outputs.argmax(axis=1)
    assert got["recall_macro"] == pytest.approx(reference.recall_score(labels, said, labels=[0, 1], average="macro"))
    for name, function in (("precision", reference.precision_score), ("f1", reference.f1_score)):
        assert got[f"{name}_macro"] == pytest.approx(function(labels, said, average="macro", zero_division=0))
    assert got["per_class"]["emu"]["recall"] is None
    assert got["per_class"]["emu"]["precision"] == 0.0
    assert got["per_class"]["fox"] == {
        "rows": 0, "answered": 0, "precision": None, "recall": None, "f1": None,
        "intervals": {"precision": None, "recall": None, "f1": None},
    }  # fmt: skip


def test_a_class_that_is_never_answered_has_precision_zero():
    got = score(np.eye(4, dtype=np.float32)[[0, 0, 0]], np.array([0, 1, 1]), NAMES)
    assert got["per_class"]["dog"]["precision"] == 0.0
    assert got["precision_macro"] == pytest.approx((1 / 3 + 0) / 2)


def test_one_row_is_scored():
    got = score(np.array([[0.7, 0.1, 0.1, 0.1]], dtype=np.float32), np.array([0]), NAMES)
    assert got["accuracy"] == got["recall_macro"] == got["f1_macro"] == 1.0
    assert got["intervals"]["accuracy"] == [1.0, 1.0]
    assert got["calibration_error"] == pytest.approx(0.3, abs=1e-6)
    assert got["log_loss"] == pytest.approx(-np.log(0.7), abs=1e-6)


def test_a_certain_wrong_answer_has_a_finite_log_loss():
    got = score(np.eye(4, dtype=np.float32)[[1]], np.array([0]), NAMES)
    assert got["log_loss"] == pytest.approx(reference.log_loss([0], np.eye(4, dtype=np.float32)[[1]], labels=range(4)))


def test_calibration_error_is_the_known_gap_of_a_known_forecaster():
    rows = 2000  # says 0.8 for every row and is right half the time
    outputs = np.tile(np.array([0.8, 0.2], dtype=np.float32), (rows, 1))
    labels = np.arange(rows) % 2
    for bins in ("mass", "width"):
        assert score(outputs, labels, NAMES[:2], bins=bins)["calibration_error"] == pytest.approx(0.3, abs=1e-6)


def test_equal_mass_bins_hold_equally_many_rows():
    outputs, labels = answers(1500)
    rows = [b["rows"] for b in reliability(outputs.astype(float), labels)]
    assert len(rows) == 15
    assert max(rows) - min(rows) <= 2


def test_the_interval_of_accuracy_agrees_with_the_binomial_one():
    outputs, labels = answers(800)
    got = score(outputs, labels, NAMES)
    p = got["accuracy"]
    half = 1.96 * np.sqrt(p * (1 - p) / 800)
    assert got["intervals"]["accuracy"] == pytest.approx([p - half, p + half], abs=0.004)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    rng, covered = np.random.default_rng(3), 0
    for _ in range(120):
        labels = np.zeros(200, dtype=np.int64)
        right = rng.random(200) < 0.8
        outputs = np.eye(2, dtype=np.float32)[np.where(right, 0, 1)]
        low, high = score(outputs, labels, NAMES[:2])["intervals"]["accuracy"]
        covered += low <= 0.8 <= high
    assert 0.89 <= covered / 120 <= 0.99


def test_scoring_the_same_rows_twice_gives_the_same_document():
    outputs, labels = answers(300)
    assert json.dumps(score(outputs, labels, NAMES)) == json.dumps(score(outputs, labels, NAMES))


@pytest.mark.parametrize(
    ("outputs", "says"),
    [
        ([[np.nan, 0.5], [0.5, 0.5]], "row 0"),
        ([[0.5, 0.5], [3.0, -2.0]], "row 1"),
        ([[0.5, 0.5], [0.2, 0.2]], "row 1"),
        ([[0.2, 0.3, 0.5], [0.2, 0.3, 0.5]], "shape"),
    ],
)
def test_outputs_that_are_not_probabilities_are_refused_by_row(outputs, says):
    with pytest.raises(DataRefused, match=says):
        score(np.array(outputs, dtype=np.float32), np.array([0, 1]), NAMES[:2])


@pytest.mark.parametrize("labels", [[], [0, 2], [-1, 0]])
def test_no_rows_and_labels_outside_the_classes_are_refused(labels):
    outputs = np.full((len(labels), 2), 0.5, dtype=np.float32)
    with pytest.raises(DataRefused):
        score(outputs, np.array(labels, dtype=np.int64), NAMES[:2])


def test_a_model_against_itself_differs_by_nothing_when_rows_are_paired():
    one = predictions(400)
    got = differences(one, one, generator=np.random.default_rng(0))
    assert got["accuracy"].paired
    assert got["accuracy"].bound("lower", 0.95) == got["accuracy"].bound("upper", 0.95) == 0.0


def test_paired_differences_are_far_tighter_than_unpaired_ones():
    champion = predictions(600, seed=1)
    better = champion.probabilities.copy()
    wrong = np.flatnonzero(better.argmax(axis=1) != champion.labels)[:30]
    better[wrong] = np.eye(4, dtype=np.float32)[champion.labels[wrong]]
    candidate = Predictions(champion.ids, champion.labels, better, NAMES)
    moved = Predictions(np.array([f"other{i}" for i in range(600)]), champion.labels, better, NAMES)
    paired = differences(candidate, champion, generator=np.random.default_rng(0))["accuracy"]
    unpaired = differences(moved, champion, generator=np.random.default_rng(0))["accuracy"]
    assert paired.value == pytest.approx(unpaired.value) == pytest.approx(0.05)
    assert not unpaired.paired
    assert paired.replicates.std() < unpaired.replicates.std() / 2
    assert paired.bound("lower", 0.95) > 0.03
    assert unpaired.bound("lower", 0.95) < 0.03


def test_the_spread_of_one_model_is_that_of_its_own_figures():
    one = predictions(500)
    got = figures(one, generator=np.random.default_rng(0))["accuracy"]
    assert got.value == pytest.approx((one.probabilities.argmax(axis=1) == one.labels).mean())
    assert got.replicates.std() == pytest.approx(np.sqrt(got.value * (1 - got.value) / 500), rel=0.08)
    assert got.bound("lower", 0.95) < got.value < got.bound("upper", 0.95)


def test_the_order_of_rows_does_not_matter_to_a_paired_difference():
    champion, candidate = predictions(300, seed=1), predictions(300, seed=2)
    order = np.random.default_rng(5).permutation(300)
    shuffled = Predictions(candidate.ids[order], candidate.labels[order], candidate.probabilities[order], NAMES)
    a = differences(candidate, champion, generator=np.random.default_rng(0))
    b = differences(shuffled, champion, generator=np.random.default_rng(0))
    assert a["f1_macro"].replicates == pytest.approx(b["f1_macro"].replicates)


def test_the_spread_of_an_unpaired_difference_is_the_sum_of_both_variances():
    a, b = predictions(500, seed=1), predictions(700, seed=2, ids=[f"x{i}" for i in range(700)], truth_seed=4)
    got = differences(a, b, generator=np.random.default_rng(0))["accuracy"]
    exact = np.sqrt(sum(p * (1 - p) / n for p, n in ((accuracy(a), 500), (accuracy(b), 700))))
    assert got.replicates.std() == pytest.approx(exact, rel=0.08)


def test_rows_with_other_labels_classes_or_repeated_ids_are_not_paired():
    one = predictions(10)
    relabelled = Predictions(one.ids, (one.labels + 1) % 4, one.probabilities, NAMES)
    renamed = Predictions(one.ids, one.labels, one.probabilities, NAMES[::-1])
    repeated = Predictions(np.array(["same"] * 10), one.labels, one.probabilities, NAMES)
    assert are_paired(one, one)
    assert not are_paired(one, relabelled)
    assert not are_paired(one, renamed)
    assert not are_paired(repeated, repeated)
