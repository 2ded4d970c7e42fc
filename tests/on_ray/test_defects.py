"""Planted defects, each on a small model: what a client would see of it, and that good answers stay good."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from platformops.apps.contract import ModelParams
from platformops.clock import SystemClock
from platformops.delivery.drills import DEFECTS
from platformops.delivery.records import Planted
from platformops.errors import ArtifactCorrupt, UserError
from platformops.frameworks.records import Predictor
from platformops.on_ray import defects
from platformops.on_ray.replica import Served, Times, answer

CLASSES = ("a", "b", "c")
APP = SimpleNamespace(
    decode=lambda content, max_pixels: np.full((2, 2, 1), len(content), dtype=np.uint8),
    transform=lambda images, operations: np.stack(images),
    encode=lambda outputs, classes: [
        {"label": classes[int(row.argmax())], "probabilities": dict(zip(classes, map(float, row), strict=True))}
        for row in outputs
    ],
)
ITEMS = [b"x" * 10, b"x" * 200]


def predict(batch):
    first = batch[:, 0, 0, 0].astype(np.float32) / 255
    return np.stack([first, 0.7 - first, np.full_like(first, 0.3)], axis=1)


SERVED = Served(APP, Predictor(ModelParams("m", (2, 2, 1), CLASSES, (0.5,), (0.5,)), (), "image", "onnx", predict),
                "img:v1", 100)  # fmt: skip


def answers(name, items=ITEMS, size=None):
    planted = Planted(name, DEFECTS[name].size if size is None else size)
    return defects.answering_with(planted)(defects.served_with(planted, SERVED), items, Times(SystemClock()))


def labels(found):
    return [json.loads(one.json)["label"] for one in found]


def test_every_defect_of_a_drill_is_known_to_replicas():
    assert set(DEFECTS) == defects.KNOWN


def test_without_a_defect_the_model_answers():
    assert labels(answer(SERVED, ITEMS)) == ["b", "a"]


@pytest.mark.parametrize(("name", "error"), [("load-error", ArtifactCorrupt), ("missing-dependency", ImportError)])
def test_what_cannot_start_says_so(name, error):
    with pytest.raises(error):
        defects.start_with(Planted(name, 1.0))


def test_what_shows_later_starts():
    for name in set(DEFECTS) - defects.AT_START:
        defects.start_with(Planted(name, 1.0))


def test_outputs_that_are_no_numbers_are_errors():
    assert [one.status for one in answers("nan-outputs")] == [500, 500]


@pytest.mark.parametrize("name", ["permuted-labels", "wrong-normalisation"])
def test_wrong_answers_look_like_answers(name):
    found = answers(name)
    assert [one.status for one in found] == [200, 200]
    assert [one.json for one in found] != [one.json for one in answer(SERVED, ITEMS)]


def test_a_share_of_the_answers_fails():
    statuses = [one.status for one in answers("errors", [b"x"] * 1000)]
    assert statuses.count(500) == 10


def test_a_share_of_the_answers_names_the_second_best():
    assert labels(answers("accuracy", [b"x" * 200] * 1000)).count("c") == 30


def test_a_field_has_another_name():
    assert set(json.loads(answers("response-schema")[0].json)) == {"label_", "probabilities"}


def test_memory_is_kept_up_to_a_bound(monkeypatch):
    monkeypatch.setattr(defects, "MOST_KEPT_BYTES", 3_000_000)
    planted = Planted("memory-growth", 1_000_000.0)
    grow = defects.answering_with(planted)
    (kept,) = [cell.cell_contents for cell in grow.__closure__ if isinstance(cell.cell_contents, list)]
    for _ in range(10):
        assert labels(grow(SERVED, ITEMS[:1], Times(SystemClock()))) == ["b"]
    assert sum(map(len, kept)) == 3_000_000


def test_delays_are_as_long_as_planned(monkeypatch):
    slept = []
    monkeypatch.setattr(defects.time, "sleep", slept.append)
    assert labels(answers("latency", size=0.003)) == ["b", "a"]
    assert labels(answers("hang")) == ["b", "a"]
    assert slept == [0.003, defects.HANG_S]


def test_an_unknown_defect_is_refused():
    with pytest.raises(UserError, match="no defect 'x'"):
        defects.answering_with(Planted("x", 1.0))


def test_the_served_model_itself_is_left_as_it_was():
    before = replace(SERVED)
    answers("permuted-labels")
    assert before == SERVED
