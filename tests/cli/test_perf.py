"""`perf` and `tune`: a live gateway under load, what its counters say, and limits that can be read."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from platformops.cli import measuring, tune, tuning
from platformops.cli.measuring import Endpoint
from platformops.cli.perf import cores_of, told
from platformops.cli.tune import limit_s
from platformops.clock import ManualClock, SystemClock
from platformops.errors import ClusterError, PlatformError, UserError
from platformops.observation.capacity.records import Load, Prediction
from platformops.observation.capacity.tuning import Proposal
from platformops.spec.load import load_spec
from platformops.store.memory import MemoryStore
from tests.gateway.door import Door, served, system

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def counted_by(door):
    """Replicas that tell what a call of theirs costs: 1 ms and half a millisecond an item."""

    async def behave(revision, items):
        n = len(items)
        stages_s = (0.0001 * n, 0.0001 * n, 0.0003 * n)
        door.gateway.metrics.called(
            revision, "n1", items=n, seconds=0.001 + 0.0005 * n, stages_s=stages_s, cpu_s=0.0005 * n
        )

    door.replicas.behave = behave


@pytest.fixture
def endpoint():
    door = Door()
    counted_by(door)
    with served(door) as port:
        yield Endpoint(f"http://127.0.0.1:{port}", "digits", door.tokens["predict"], door.tokens["operate"], 1, 64)


def test_a_live_system_is_measured_and_told(endpoint, tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(b"image")
    points = measuring.sweep(endpoint, file, SystemClock(), seconds=0.3, clients=(1, 4, 16))
    document = told(points, endpoint, replicas=2, rps=100.0)
    assert [p["clients"] for p in document["points"]] == [1, 4, 16]
    assert points[-1].clients is None, "the last one came at random"
    assert points[-1].throughput_per_s == pytest.approx(0.5 * max(p.throughput_per_s for p in points[:-1]), rel=0.1)
    assert points[0].calls[0].items == pytest.approx(1.0)
    assert points[2].calls[0].items > 1.0
    assert points[0].calls[0].seconds == pytest.approx(0.0015, rel=0.01)
    assert document["capacity_rps"] > 100
    assert document["predicted"]["rps"] == pytest.approx(100, rel=0.1)
    assert document["predicted"]["p50_ms"] > 1.0
    assert document["evidence"]


def test_no_more_clients_are_tried_than_the_queue_holds(endpoint, tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(b"image")
    short = replace(endpoint, max_queue=3)
    points = measuring.sweep(short, file, SystemClock(), seconds=0.1, clients=(1, 4, 16))
    assert [p.clients for p in points if p.clients] == [1, 3]


class Learning(ManualClock):
    """While somebody waits, the gateway reads its keys."""

    def __init__(self, learn):
        super().__init__()
        self.learn = learn

    def sleep(self, seconds):
        super().sleep(seconds)
        self.learn()


def test_keys_that_were_just_made_are_waited_for_until_the_gateway_knows_them():
    door = Door()
    known, door.entries = door.entries, []
    door.serve(system())

    def learn():
        door.entries = known
        door.serve(system())

    with served(door) as port:
        made = Endpoint(f"http://127.0.0.1:{port}", "digits", door.tokens["predict"], door.tokens["operate"], 1, 64)
        with pytest.raises(ClusterError, match="does not know this user's keys"):
            measuring.await_admission(made, ManualClock())
        clock = Learning(learn)
        measuring.await_admission(made, clock)
        assert measuring.counted(made)


def test_requests_that_fail_are_no_measurement(endpoint):
    with pytest.raises(PlatformError, match="requests failed"):
        measuring.measure(endpoint, b"bad", "image/png", clients=1, seconds=0.1)


def proposal(rate):
    prediction = Prediction(Load(1, 16), rate, 0.01, 0.02, 0.01, 1.0, 0.5)
    return Proposal(1, 16, 32, prediction, "")


def test_a_proposal_that_keeps_its_limit_under_load_is_proven_with_its_figures(endpoint, tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(b"image")
    proof = tuning.proven(tuning.Trial(endpoint, file, 5.0, 1.0), 100.0, seconds=1.0)
    assert proof.is_within
    assert "0 errors" in proof.told


def test_a_proposal_that_misses_its_limit_or_fails_is_not_proven(endpoint, tmp_path):
    good, bad = tmp_path / "a.png", tmp_path / "b.png"
    good.write_bytes(b"image")
    bad.write_bytes(b"bad")
    assert "not kept" in tuning.proven(tuning.Trial(endpoint, good, 1e-6, 1.0), 100.0, seconds=1.0).told
    assert " errors" in tuning.proven(tuning.Trial(endpoint, bad, 5.0, 1.0), 100.0, seconds=1.0).told


def test_of_rates_that_are_too_high_the_highest_that_keeps_the_limit_is_proven(endpoint, tmp_path, monkeypatch):
    tried = []

    def proven(trial, rate, *, seconds):
        tried.append(rate)
        return tuning.Proof(rate <= 70, "", rate)

    monkeypatch.setattr(tuning, "proven", proven)
    assert tuning.kept(tuning.Trial(endpoint, tmp_path, 0.08, 1.0), 100.0).rate_per_s == 68.0
    assert tried == [100.0, 100.0, 92.0, 92.0, 84.0, 84.0, 76.0, 76.0, 68.0], "each twice, as a stall may spoil one"


@pytest.mark.parametrize(
    ("kept_rps", "is_within", "verified", "said"),
    [
        (180.0, True, True, "proven"),
        (102.0, True, False, "no better than before (100 a second)"),
        (180.0, False, False, "not kept"),
    ],
)
def test_what_was_released_stays_only_where_it_is_proven_and_serves_more(
    endpoint, tmp_path, monkeypatch, kept_rps, is_within, verified, said
):
    settled, proof = [], tuning.Proof(is_within, "proven" if is_within else "not kept", kept_rps)
    monkeypatch.setattr(tuning, "release", lambda system, spec, found: None)
    monkeypatch.setattr(tuning, "verified", lambda trial, found: proof)
    monkeypatch.setattr(tuning, "settle", lambda *about, proven, write: settled.append(proven) or proven)
    trial, before = tuning.Trial(endpoint, tmp_path, 0.08, 1.0), tuning.Proof(True, "", 100.0)
    document = tune._released(proposal(200.0), before, trial, tmp_path / "spec.yaml", write=True)
    assert (document["verified"], document["written"], settled) == (verified, verified, [verified])
    assert said in document["measured"]
    assert document["before_rps"] == 100.0


def test_cores_are_those_of_living_nodes_and_unknown_without_any():
    store = MemoryStore()
    assert cores_of(store) == math.inf
    nodes = [{"state": "alive", "cpus": 2.0}, {"state": "alive", "cpus": 4.0}, {"state": "dead", "cpus": 8.0}]
    store.put("status/controller", {"nodes": nodes}, expect=None)
    assert cores_of(store) == 6.0


def test_what_was_proven_is_written_to_the_spec_and_nothing_else_changes(tmp_path):
    spec = tmp_path / "digits.yaml"
    text = (CONFIGS / "digits.yaml").read_text(encoding="utf-8")
    spec.write_text(text, encoding="utf-8")
    assert tuning.settle("digits", spec, proposal(100.0), proven=True, write=True)
    written = load_spec(spec).serve
    assert (written.replicas, written.batch, written.max_queue) == ((1, 1), 16, 32)
    assert spec.read_text(encoding="utf-8").startswith(text.rstrip())
    assert [p.name for p in tmp_path.iterdir()] == ["digits.yaml"]


def test_writing_needs_the_spec_to_write_to(platformops, tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(b"image")
    answer = platformops("tune", "digits", str(file), "--write")
    assert answer.code == 2
    assert "--spec SPEC" in answer.err


@pytest.mark.parametrize(("text", "seconds"), [("p99=80ms", 0.08), ("p99=0.5s", 0.5)])
def test_a_limit_is_read(text, seconds):
    assert limit_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["80ms", "p99=0ms", "p50=80ms", "p99=-1s", ""])
def test_a_limit_that_cannot_be_read_is_refused_with_an_example(text):
    with pytest.raises(UserError) as refused:
        limit_s(text)
    assert "p99=80ms" in refused.value.remedy


def test_perf_of_a_platform_without_a_gateway_says_what_to_do(platformops, tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(b"image")
    answer = platformops("perf", "digits", str(file))
    assert answer.code == 2
    assert "platformops up" in answer.err
