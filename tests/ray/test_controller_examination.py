"""Evidence on a candidate, from real artifacts and a scripted endpoint; no cluster."""

import httpx
import numpy as np
import pytest

from platformops.clock import ManualClock
from platformops.delivery import gate
from platformops.delivery.records import Revision, Rollout, RolloutState
from platformops.home import home_at
from platformops.on_ray.examination import PATIENCE_S, REQUESTS, WARM_UP, evaluate, replay
from platformops.store.artifacts import Artifacts
from tests.ray.evaluation_kit import publish_evaluation

CLASSES = ("cat", "dog")
CONTENTS = [b"row%d" % i for i in range(8)]
GATES = {"recall_macro": ">= champion - 0.01 at 95%", "accuracy": ">= 0.5 at 95%", "log_loss": "<= 5"}


@pytest.fixture
def home(tmp_path):
    return home_at(tmp_path)


def outputs(rows, seed, skill=2.0):
    labels = np.random.default_rng(99).integers(0, 2, rows)
    scores = np.random.default_rng(seed).normal(size=(rows, 2))
    scores[np.arange(rows), labels] += skill
    exp = np.exp(scores)
    return (exp / exp.sum(axis=1, keepdims=True)).astype(np.float32), labels


def revision(home, number, rows=200, skill=2.0, ids=None):
    probabilities, labels = outputs(rows, number, skill)
    found = publish_evaluation(home, number, CONTENTS, probabilities, labels, CLASSES, ids=ids)
    return Revision("img", number, number, "a", "d", 1, 1, {}, "img", *found, CLASSES)


def rollout(candidate, stable=None, gates=GATES):
    return Rollout("img", 2, candidate, stable, RolloutState.PENDING, 0, ("100%",), gates, (), "", 0.0, 0.0)


def artifacts(home):
    return Artifacts(home.artifacts_url, cache=home.cache)


class Endpoint:
    """An endpoint that answers what the evaluation found, unless told otherwise."""

    def __init__(self, revision, probabilities, clock, *, latency_s=0.004):
        self.revision, self.probabilities, self.clock, self.latency_s = revision, probabilities, clock, latency_s
        self.asked, self.failures = [], []

    def __call__(self, request):
        self.asked.append(request)
        self.clock.sleep(self.latency_s)
        if self.failures:
            failure = self.failures.pop(0)
            if isinstance(failure, Exception):
                raise failure
            return failure
        shares = self.probabilities[CONTENTS.index(request.content)]
        named = {c: float(p) for c, p in zip(CLASSES, shares, strict=True)}
        return httpx.Response(200, json={
            "request_id": "x", "model_version": self.revision.version_name, "revision": self.revision.name,
            "predictions": [{"label": max(named, key=named.get), "probability": 1.0, "probabilities": named}],
        })  # fmt: skip

    def client(self):
        return httpx.Client(base_url="http://gateway", transport=httpx.MockTransport(self))


@pytest.fixture
def endpoint(home):
    return Endpoint(revision(home, 1), outputs(200, 1)[0], ManualClock())


def asked(endpoint, home):
    return replay(rollout(endpoint.revision), artifacts(home), endpoint.client(), endpoint.clock)


def test_a_first_release_has_figures_and_no_champion(home):
    found = evaluate(rollout(revision(home, 1)), artifacts(home))
    assert found.problem == ""
    assert found.champion == ""
    assert found.metrics["accuracy"] > 0.8
    assert all(r.passed for r in gate.judge_offline(GATES, found))


def test_models_that_answered_the_same_rows_are_compared_in_pairs(home):
    found = evaluate(rollout(revision(home, 2), revision(home, 1)), artifacts(home))
    bound = found.bounds["recall_macro"]
    assert bound.paired
    assert found.champion == "img:v1"
    assert bound.bound < bound.figure - bound.champion
    assert found.bounds["accuracy"].champion is None


def test_rows_in_common_say_how_many_other_answers_to_expect(home):
    stable = revision(home, 1)
    found = evaluate(rollout(revision(home, 2), stable), artifacts(home))
    own, other = outputs(200, 2)[0].argmax(axis=1), outputs(200, 1)[0].argmax(axis=1)
    assert (own != other).mean() < found.disagreement < 1
    few = revision(home, 3, ids=[f"other{i}" for i in range(200)])
    assert evaluate(rollout(few, stable), artifacts(home)).disagreement is None
    assert evaluate(rollout(stable), artifacts(home)).disagreement is None


def test_models_that_answered_other_rows_are_compared_unpaired(home):
    other = revision(home, 1, ids=[f"other{i}" for i in range(200)])
    assert not evaluate(rollout(revision(home, 2), other), artifacts(home)).bounds["recall_macro"].paired


def test_a_clearly_worse_candidate_is_refused_by_its_relative_gate(home):
    found = evaluate(rollout(revision(home, 2, skill=0.8), revision(home, 1, skill=3.0)), artifacts(home))
    results = {r.name: r.passed for r in gate.judge_offline(GATES, found)}
    assert results == {"recall_macro": False, "accuracy": True, "log_loss": True}


def test_the_same_evidence_is_gathered_twice(home):
    asked_for = rollout(revision(home, 2), revision(home, 1))
    assert evaluate(asked_for, artifacts(home)) == evaluate(asked_for, artifacts(home))


def test_a_damaged_evaluation_is_a_problem_and_not_a_figure(home):
    candidate = revision(home, 1)
    (path,) = home.root.rglob("metrics.json")
    path.chmod(0o644)
    path.write_text(path.read_text().replace("accuracy", "accurate"))
    found = evaluate(rollout(candidate), artifacts(home))
    assert "metrics.json" in found.problem
    (result,) = gate.judge_offline(GATES, found)
    assert not result.passed


def test_every_row_is_asked_and_enough_requests_are_timed(home, endpoint):
    found = asked(endpoint, home)
    assert found.asked == found.answered == WARM_UP + REQUESTS
    assert len(found.latencies_ms) == REQUESTS
    assert found.latencies_ms[0] == pytest.approx(4.0, abs=0.01)
    assert found.parity.rows == len(CONTENTS)
    assert found.parity.largest < 1e-6
    assert {r.headers["x-platformops-revision"] for r in endpoint.asked} == {"img-r1"}


def test_a_slow_endpoint_is_asked_for_every_row_and_then_no_more_than_the_time_allows(home, endpoint):
    endpoint.latency_s = 4.0
    found = asked(endpoint, home)
    assert found.answered == len(CONTENTS)
    assert found.parity.rows == len(CONTENTS)


def test_a_busy_or_restarting_gateway_is_asked_again(home, endpoint):
    endpoint.failures = [httpx.Response(503, json={}), httpx.ConnectError("refused"), httpx.Response(429, json={})]
    found = asked(endpoint, home)
    assert found.asked == found.answered
    assert found.problem == ""


def test_patience_with_a_gateway_ends(home, endpoint):
    endpoint.failures = [httpx.Response(503, text="overloaded")] * 1000
    began = endpoint.clock.now()
    found = asked(endpoint, home)
    assert (found.asked, found.answered) == (1, 0)
    assert "503: overloaded" in found.problem
    assert endpoint.clock.now() - began < PATIENCE_S + 1


@pytest.mark.parametrize(
    ("response", "says"),
    [
        (httpx.Response(500, text="model_output_invalid"), "500"),
        (httpx.Response(200, text="<html>"), "another shape"),
        (httpx.Response(200, json={"predictions": [], "revision": "img-r1", "model_version": "img:v1"}), "shape"),
        (
            httpx.Response(
                200,
                json={
                    "predictions": [{"label": "cat", "probabilities": {}}],
                    "revision": "img-r0",
                    "model_version": "img:v0",
                },
            ),
            "img-r0",
        ),
    ],
    ids=["error", "no json", "no prediction", "another revision"],
)
def test_an_answer_that_is_none_is_not_servable_and_says_why(home, endpoint, response, says):
    endpoint.failures = [response]
    found = asked(endpoint, home)
    assert found.answered == 0
    assert says in found.problem
    assert not gate.judge_endpoint({}, found, 0.15)[0].passed


def test_answers_other_than_offline_break_parity(home, endpoint):
    endpoint.probabilities = endpoint.probabilities[:, ::-1].copy()
    found = asked(endpoint, home)
    assert found.parity.largest > 0.1
    assert not gate.judge_endpoint({}, found, 0.15)[1].passed


def test_rows_that_cannot_be_read_are_a_problem(home, endpoint):
    (path,) = home.root.rglob("parity.npz")
    path.chmod(0o644)
    path.write_bytes(b"no archive")
    found = asked(endpoint, home)
    assert found.asked == 0
    assert "parity.npz" in found.problem
