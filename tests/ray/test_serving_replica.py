"""What a replica answers and when it calls itself stuck; no Ray."""

import json
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from platformops.apps.contract import Operation
from platformops.clock import ManualClock
from platformops.errors import ArtifactCorrupt
from platformops.gateway.served import limits_of
from platformops.home import home_at
from platformops.on_ray import replica
from platformops.on_ray.autoscaling import by_items, wanted_replicas
from platformops.store.artifacts import Artifacts
from tests.ray.serving_kit import CLASSES, png, publish_model

pytestmark = pytest.mark.filterwarnings("ignore")
"""The ONNX exporter warns about itself."""


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    home = home_at(tmp_path_factory.mktemp("replica"))
    return home, publish_model(home)


@pytest.fixture(scope="module")
def served(published):
    home, revision = published
    artifacts = Artifacts(home.artifacts_url, cache=home.cache)
    return replica.load(revision, limits_of({"max_pixels": 10_000}), artifacts, threads=1)


def test_a_bad_image_in_a_batch_is_answered_by_itself(served):
    answers = replica.answer(served, [png(1), b"garbage", png(2)])
    assert [a.status for a in answers] == [200, 422, 200]
    assert answers[1].code
    assert json.loads(answers[0].json)["label"] in CLASSES
    assert answers[0].model_version == "digits:v1"


def test_answers_do_not_depend_on_what_travelled_with_them(served):
    alone = [replica.answer(served, [png(n)])[0].json for n in range(5)]
    together = [a.json for a in replica.answer(served, [png(n) for n in range(5)])]
    for one, other in zip(alone, together, strict=True):
        first, second = json.loads(one), json.loads(other)
        assert first["label"] == second["label"]
        assert first["probabilities"] == pytest.approx(second["probabilities"], abs=2e-6)


def test_an_image_with_too_many_pixels_is_413_by_its_header(served):
    answer = replica.answer(served, [png(side=200)])[0]
    assert (answer.status, answer.code) == (413, "too_many_pixels")


def test_many_small_files_of_many_pixels_are_not_all_decoded_at_once(served):
    held = []

    def transform(images, operations):
        held.append(sum(image.nbytes for image in images))
        return np.zeros((len(images), *served.predictor.params.input_shape), np.uint8)

    def decode(item, *, max_pixels):
        return np.zeros((4000, 4000, 1), np.uint8)

    wide = replace(served, app=replace(served.app, decode=decode, transform=transform))
    assert [a.status for a in replica.answer(wide, [b"x"] * 20)] == [200] * 20
    assert max(held) < replica.MAX_DECODED_BYTES + 16_000_000
    assert len(held) == 4


def test_a_shape_that_cannot_be_transformed_is_answered_by_itself(served):
    line = np.zeros((1, 9_000), np.uint8)
    answers = replica.answer(
        replace(served, predictor=replace(served.predictor, operations=(Operation("resize", 4096),))),
        [b"garbage", cv2.imencode(".png", line)[1].tobytes()],
    )
    assert [(a.status, a.code) for a in answers] == [(422, "unsupported_format"), (422, "extreme_shape")]


def test_outputs_that_are_not_numbers_are_an_error_of_that_item_only(served):
    def half_broken(batch):
        outputs = np.full((len(batch), len(CLASSES)), 0.1, dtype=np.float32)
        outputs[0] = np.nan
        return outputs

    broken = replace(served, predictor=replace(served.predictor, predict=half_broken))
    answers = replica.answer(broken, [png(1), png(2)])
    assert [(a.status, a.code) for a in answers] == [(500, "model_output_invalid"), (200, "")]


def test_a_changed_byte_in_the_artifact_is_refused_before_anything_is_loaded(tmp_path):
    home = home_at(tmp_path)
    revision = publish_model(home, number=9)
    artifacts = Artifacts(home.artifacts_url, cache=home.cache)
    model = artifacts.open(revision.artifact, revision.manifest_digest) / "model.json"
    model.chmod(0o644)
    model.write_bytes(model.read_bytes().replace(b"small_cnn", b"small_cnm"))
    with pytest.raises(ArtifactCorrupt, match=r"model\.json"):
        replica.load(revision, limits_of({}), artifacts, threads=1)


def test_a_batch_past_every_deadline_means_stuck_and_its_return_means_well():
    clock = ManualClock()
    work = replica.Workload(clock, timeout_s=10)
    ticket = work.begin(4, queued=7)
    clock.sleep(29)
    assert work.stuck_s() is None
    clock.sleep(2)
    assert work.stuck_s() == 31
    work.end(ticket, 4)
    assert work.stuck_s() is None


def test_peaks_are_since_the_last_reading():
    work = replica.Workload(ManualClock(), timeout_s=10)
    ticket = work.begin(4, queued=7)
    work.end(work.begin(2, queued=1), 2)
    assert work.peaks() == (6, 7)
    assert work.peaks() == (4, 0)
    work.end(ticket, 4)
    assert work.peaks() == (4, 0)
    assert work.peaks() == (0, 0)


@pytest.mark.parametrize(("items", "queued", "replicas"), [(0, 0, 1), (32, 0, 1), (33, 0, 2), (32, 100, 5)])
def test_replicas_follow_items_in_flight(items, queued, replicas):
    assert wanted_replicas(items, queued, items_per_replica=32) == replicas


def test_the_queue_that_every_replica_was_told_of_counts_once():
    context = SimpleNamespace(
        aggregated_metrics={"items": {"a": 32.0, "b": 32.0}, "queued": {"a": 60.0, "b": 64.0}},
        config=SimpleNamespace(target_ongoing_requests=32.0),
    )
    assert by_items(context) == (4, {})
    assert by_items(SimpleNamespace(aggregated_metrics={}, config=context.config)) == (1, {})


def test_a_replica_that_has_measured_nothing_takes_no_batch_for_short():
    assert not replica.Pace().is_short([b"x"])


def test_small_batches_of_fast_items_are_short_and_large_or_heavy_ones_are_not():
    pace = replica.Pace()
    pace.note(10, 0.004)
    assert pace.is_short([b"x"] * 8)
    assert not pace.is_short([b"x"] * 9)
    assert not pace.is_short([bytes(300_000)])


def test_one_slow_item_counts_at_once_and_is_forgotten_in_time():
    pace = replica.Pace()
    pace.note(1, 0.001)
    pace.note(1, 0.5)
    assert not pace.is_short([b"x"])
    for _ in range(60):
        pace.note(1, 0.001)
    assert pace.is_short([b"x"])
