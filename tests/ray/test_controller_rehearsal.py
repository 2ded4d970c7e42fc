"""The rehearsal of a candidate beside stable, through a scripted endpoint; no cluster."""

import threading

import httpx
import numpy as np
import pytest

from platformops.delivery.records import Revision, Rollout, RolloutState
from platformops.errors import ClusterError
from platformops.on_ray.examination import Rows
from platformops.on_ray.rehearsal import CONNECTIONS, PAIRS, Probed, rehearse

CLASSES = ("cat", "dog")
CONTENTS = [b"row%d" % i for i in range(8)]
DIGESTS = [f"d{i}" for i in range(8)]
ROWS = Rows([f"r{i}" for i in range(8)], CONTENTS, np.zeros((8, 2), np.float32), CLASSES, DIGESTS)
STABLE, CANDIDATE = (Revision("img", n, n, "a", "d", 1, 1, {}, "img") for n in (1, 2))
ANSWER = {"label": "cat", "probabilities": {"cat": 1.0, "dog": 0.0}}


class Places:
    """Both revisions behind one gateway; a clock of their own for each thread, as each waits by itself."""

    def __init__(self, *, candidate_s=0.01, answer=ANSWER, digests=DIGESTS, resident=(300, 300), dies_after=10**9):
        self.took = {"img-r1": 0.01, "img-r2": candidate_s}
        self.answer, self.digests, self.resident, self.dies_after = answer, digests, list(resident), dies_after
        self.asked, self.lock, self.threads = [], threading.Lock(), threading.local()

    def monotonic(self):
        return getattr(self.threads, "now", 0.0)

    def sleep(self, seconds):
        self.threads.now = self.monotonic() + seconds

    def now(self):
        return self.monotonic()

    def __call__(self, request):
        name = request.headers["x-platformops-revision"]
        with self.lock:
            self.asked.append(name)
            if name == "img-r2" and self.asked.count(name) > self.dies_after:
                return httpx.Response(500, text="out of memory")
        self.sleep(self.took[name])
        return httpx.Response(200, json={"predictions": [self.answer if name == "img-r2" else ANSWER]})

    def probe(self, revision, contents):
        assert revision == "img-r2"
        if not contents:
            return Probed("r1", self.resident.pop(0) * 2**20, ())
        return Probed("r1", 300 * 2**20, tuple(self.digests))

    def rehearse(self, stable=STABLE, *, is_servable=True, rows=ROWS):
        rollout = Rollout("img", 2, CANDIDATE, stable, RolloutState.VERIFYING, 0, ("100%",), {}, (), "", 0.0, 0.0)
        client = httpx.Client(base_url="http://gateway", transport=httpx.MockTransport(self))
        return rehearse(rollout, rows, client, self, self.probe, is_servable=is_servable)


def test_candidate_and_stable_are_asked_by_turns_several_at_a_time():
    places = Places()
    seen = places.rehearse()
    assert (seen.asked, seen.answered, seen.pairs, seen.slower) == (2 * CONNECTIONS * PAIRS,) * 3 + (0,)
    assert places.asked.count("img-r1") == places.asked.count("img-r2")
    assert seen.p99_ms == pytest.approx(10.0)
    assert seen.fields == seen.stable_fields == {"label": "text", "probabilities.*": "number"}
    assert (seen.transformed, seen.differing, seen.memory_bytes) == (8, (), (300 * 2**20, 300 * 2**20))


def test_a_slower_candidate_is_slower_in_every_pair():
    seen = Places(candidate_s=0.012).rehearse()
    assert seen.slower == seen.pairs > 0


def test_a_first_release_is_rehearsed_alone():
    places = Places()
    seen = places.rehearse(stable=None)
    assert (seen.pairs, seen.stable_fields, set(places.asked)) == (0, {}, {"img-r2"})
    assert seen.asked == seen.answered > 0


def test_one_that_is_not_servable_only_shows_how_its_answers_look():
    seen = Places(answer={"class": "cat"}).rehearse(is_servable=False)
    assert (seen.fields, seen.asked, seen.transformed) == ({"class": "text"}, 0, 0)


def test_one_that_dies_under_load_is_told_with_the_reason():
    seen = Places(dies_after=50).rehearse()
    assert seen.answered < seen.asked
    assert "out of memory" in seen.problem


def test_rows_that_are_made_other_numbers_are_named():
    assert Places(digests=[*DIGESTS[:7], "other"]).rehearse().differing == ("r7",)


def test_rows_of_an_evaluation_without_digests_are_not_compared():
    assert Places().rehearse(rows=Rows(ROWS.ids, CONTENTS, ROWS.probabilities, CLASSES)).transformed == 0


def test_a_replica_that_tells_nothing_of_itself_has_no_memory_and_all_rows_differ():
    places = Places()

    def gone(revision, contents):
        raise ClusterError("no replica answers")

    places.probe = gone
    seen = places.rehearse()
    assert seen.memory_bytes == (0, 0)
    assert len(seen.differing) == 8


def test_the_memory_of_two_different_replicas_is_not_compared():
    places, names = Places(), iter(("r1", "r2"))
    tell = places.probe
    places.probe = lambda revision, contents: Probed(next(names), 300 * 2**20, ()) if not contents else tell(
        revision, contents)  # fmt: skip
    assert places.rehearse().memory_bytes == (0, 0)


def test_a_slow_candidate_is_asked_no_longer_than_its_time():
    seen = Places(candidate_s=3.0).rehearse()
    assert 0 < seen.asked < 2 * CONNECTIONS * PAIRS
