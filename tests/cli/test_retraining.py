"""The work of a drift loop, the run of the pipeline aside: each phase ends in an outcome."""

import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from sklearn.datasets import load_digits

from platformops.apps.contract import ModelParams
from platformops.cli import retraining
from platformops.cli.retraining import Work, choose, compare, release
from platformops.cli.retraining_rows import read_rows
from platformops.delivery.documents import system_json
from platformops.delivery.drift_loop import DriftLoop, LoopState
from platformops.delivery.records import Revision, System
from platformops.delivery.retraining import (
    Order,
    Outcome,
    Phase,
    Recipe,
    load_outcome,
    loop_json,
    loop_key,
    order_of,
    outcome_put,
    recipe_puts,
)  # fmt: skip
from platformops.delivery.systems import newest_rollout, system_key
from platformops.errors import ClusterError, DataRefused
from platformops.frameworks.records import Predictor
from platformops.gateway.inputs import Inputs
from platformops.home import home_at
from platformops.spec.load import load_spec
from platformops.store.artifacts import Artifacts
from platformops.store.open import open_store
from platformops.store.records import Put
from tests.ray.evaluation_kit import publish_evaluation, register_version

CLASSES = tuple("0123456789")
SPEC = """
system: digits
app: image
data: {source: sklearn://digits, prepare: [{resize: 8}, {normalize: auto}]}
gates: {accuracy: ">= 0.5", recall_macro: ">= champion - 0.05"}
watch: {retrain: true}
"""
LOOP = DriftLoop("digits", LoopState.CHOOSING, "error has changed", 1000.0, number=1, gathered_at=5000.0)


def knows_nothing(directory, **how):
    """A model that gives every class the same probability."""
    params = ModelParams("small_cnn", (8, 8, 1), CLASSES, (0.5,), (0.25,))
    return Predictor(params, (), "image", "onnx", lambda batch: np.full((len(batch), 10), 0.1, np.float32))


def published(home):
    artifacts = Artifacts(home.artifacts_url, cache=home.cache)
    staging = artifacts.staging("a" * 64)
    (staging / "model.json").write_text("{}")
    digest = artifacts.publish("a" * 64, staging)
    return Revision("digits", 1, 1, "a" * 64, digest, 1, 1, model="digits", evaluation="e" * 64, evaluation_digest="d")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A home with a live model and 240 inverted digits that came back labelled; the model knows nothing."""
    root = tmp_path_factory.mktemp("home")
    home, spec = home_at(root), root / "digits.yaml"
    spec.write_text(SPEC)
    store = open_store(home.store_url)
    stable = published(home)
    inputs, digits = Inputs(home.inputs), load_digits()
    inputs.systems = frozenset({"digits"})
    for i in range(240):
        id = f"r{i:03}"
        pixels = 255 - np.round(digits.images[i] * (255 / 16)).astype(np.uint8)
        inputs.keep("digits", id, cv2.imencode(".png", pixels)[1].tobytes())
        value = {"request_id": id, "at": 1000.0 + i, "truth": str(digits.target[i]), "truth_at": 1001.0 + i}
        store.commit([Put(f"sample/digits/{id}", value, None)])
    inputs.flush()
    recipe = Recipe("digits", str(spec), retrain=True)
    system = System("digits", stable, None, {}, CLASSES, "up")
    store.commit([
        *recipe_puts(recipe), Put(system_key("digits"), system_json(system), None),
        Put(loop_key("digits"), loop_json(LOOP), None),
    ])  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("platformops.frameworks.torch.load_predictor", knows_nothing)
        yield SimpleNamespace(home=home, store=store, recipe=recipe, spec=spec, stable=stable)
    store.close()


def work_on(made, phase, version=0):
    return Work(Order("digits", 1, phase, 1000.0, 5000.0, version), made.recipe, made.home, made.store)


@pytest.fixture(scope="module")
def chosen(made):
    return choose(work_on(made, Phase.CHOOSE))


@pytest.fixture
def ran(made, chosen, monkeypatch):
    """The run's model answers right to nine in ten of the newest rows."""
    rows = read_rows(made.home.retraining / "digits" / "1" / "recent.parquet", {})
    labels = [CLASSES.index(row.label) for row in rows]
    told = [(label + (i % 10 == 0)) % 10 for i, label in enumerate(labels)]
    probabilities = np.eye(10, dtype=np.float32)[told]
    contents = [row.content for row in rows]
    place = publish_evaluation(made.home, 7, contents, probabilities, labels, CLASSES, ids=[row.id for row in rows])
    version = register_version(made.store, made.stable, place)
    version = replace(version, params={"data": {"classes": list(CLASSES)}})
    found = SimpleNamespace(version=version, planned=SimpleNamespace(spec=load_spec(made.spec)))
    monkeypatch.setattr(Work, "run", lambda self: found)
    return found


def test_the_window_of_the_newest_labels_is_written_and_the_newest_third_is_kept_aside(made, chosen):
    assert chosen.failure == ""
    train, recent = (
        read_rows(made.home.retraining / "digits" / "1" / name, {}) for name in ("train.parquet", "recent.parquet")
    )
    assert [row.id for row in recent] == [f"r{i:03}" for i in range(160, 240)]
    assert not {row.id for row in train} & {row.id for row in recent}
    assert {row.id for row in train} >= {f"r{i:03}" for i in range(100, 160)}
    assert {item["window"] for item in chosen.evidence} >= {"all rows", "rows since the change"}


def test_a_better_candidate_passes_and_gates_will_see_the_champion_on_the_same_rows(made, ran):
    outcome = compare(work_on(made, Phase.COMPARE))
    assert outcome.is_better, outcome.told
    (figures,) = outcome.evidence
    assert figures["rows"] == 80
    assert figures["candidate_error"] == 0.1 < figures["champion_error"]
    made.store.commit([outcome_put(work_on(made, Phase.COMPARE).order, outcome)])
    asked = release(work_on(made, Phase.RELEASE))
    rollout, _ = newest_rollout(made.store, "digits")
    assert asked.rollout == rollout.number
    assert (rollout.stable.evaluation, rollout.stable.evaluation_digest) == tuple(outcome.evaluation)
    work = work_on(made, Phase.COMPARE)
    metrics = json.loads((work.artifacts.open(*outcome.evaluation) / "metrics.json").read_text())
    assert metrics["accuracy"] == pytest.approx(1 - figures["champion_error"])


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (DataRefused("no rows"), Outcome(failure="no rows")),
        (RuntimeError("broken app"), Outcome(failure="RuntimeError: broken app")),
        (ClusterError("Ray is away"), None),
    ],
)
def test_what_goes_wrong_is_the_outcome_unless_it_may_go_well_the_next_time(made, monkeypatch, error, outcome):
    def fails(work):
        raise error

    monkeypatch.setenv("PLATFORMOPS_HOME", str(made.home.root))
    monkeypatch.setattr(sys, "argv", ["retraining", "digits"])
    monkeypatch.setattr(retraining, "choose", fails)
    assert retraining.main() == 0
    order = order_of(LOOP)
    assert load_outcome(made.store, order) == outcome
    made.store.commit([Put(order.key, None, None)])


def test_a_second_process_for_the_same_system_does_nothing(made, monkeypatch):
    monkeypatch.setenv("PLATFORMOPS_HOME", str(made.home.root))
    monkeypatch.setattr(sys, "argv", ["retraining", "digits"])
    monkeypatch.setattr(retraining, "choose", lambda work: pytest.fail("somebody is on it"))
    with retraining._alone(made.home, "digits") as is_alone:
        assert is_alone
        assert retraining.main() == 0
