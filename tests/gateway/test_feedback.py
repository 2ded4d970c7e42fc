"""Labels that come back: late, twice, for unknown requests, and contradicting each other."""

import json

import pytest

from platformops.delivery.evidence import total
from platformops.delivery.quality import quality_key, quality_of
from platformops.gateway import samples as kept
from platformops.gateway.call import Answer
from platformops.gateway.samples import Feedback, Sample, Samples
from platformops.store.memory import MemoryStore
from tests.gateway.door import PREDICTION
from tests.gateway.test_canary import CANDIDATE, ask_and_wait, behave, opened


def send(door, request_id, label, **changed):
    content = json.dumps({"request_id": request_id, "label": label}).encode()
    return door.ask(path="/digits/feedback", content=content, kind="application/json", **changed)


def counted(door, revision):
    return total(door.gateway.book.tallies().revisions.get(revision, {}).values())


def quality(door, version="digits:v1"):
    return quality_of(door.gateway.samples._store.get(quality_key(version)))


def test_a_label_is_counted_once_for_the_version_that_answered():
    door = opened(shadow=True)
    door.gateway._predicting._canary._copy = lambda *request: None
    request_id = door.ask().json()["request_id"]
    assert send(door, request_id, "8").json() == {"request_id": request_id, "status": "recorded"}
    assert send(door, request_id, "8").json()["status"] == "repeated"
    contradiction = send(door, request_id, "3")
    assert (contradiction.status_code, contradiction.json()["error"]["code"]) == (409, "contradictory_label")
    assert quality(door) == (1, 1)
    assert (counted(door, "digits-r1").labelled, counted(door, "digits-r1").wrong) == (1, 1)


def test_a_label_of_a_copied_request_judges_both_revisions_on_one_input():
    door = opened(shadow=True)
    other = json.dumps({**PREDICTION, "label": "8"}).encode()
    door.replicas.behave = behave(lambda items: [Answer(200, other, model_version="digits:v2")])
    (reply,) = ask_and_wait(door)
    send(door, reply.json()["request_id"], "3")
    seen = counted(door, CANDIDATE)
    assert (seen.pairs, seen.only_own_wrong, seen.only_other_wrong) == (1, 1, 0)
    assert (quality(door), quality(door, "digits:v2")) == ((1, 0), (1, 1))


def test_an_unknown_request_is_said_to_be_unknown():
    assert send(opened(), "nosuch", "3").json()["error"]["code"] == "unknown_request"


def test_requests_that_were_refused_are_not_kept():
    door = opened()
    reply = door.ask(content=b"bad image")
    assert send(door, reply.json()["error"]["request_id"], "3").status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"request_id": "a"}',
        b'{"request_id": 3, "label": "x"}',
        b'{"request_id": "a/b", "label": "x"}',
        b'{"request_id": "a", "label": ""}',
        b'{"request_id": "a", "label": "\\u0000"}',
        b'{"request_id": "a", "label": 3}',
        b'{"request_id": "a", "label": "\\ud800"}',
        b'{"request_id": "a", "label": "two\\nlines"}',
        b'{"request_id": "a", "label": "%s"}' % (b"x" * 201),
    ],
)
def test_what_is_no_label_is_refused(body):
    reply = opened().ask(path="/digits/feedback", content=body, kind="application/json")
    assert (reply.status_code, reply.json()["error"]["code"]) == (422, "bad_feedback")


def test_a_body_that_is_too_large_is_refused():
    assert opened().ask(path="/digits/feedback", content=b"x" * 5000).status_code == 413


def test_only_keys_of_the_system_may_label():
    assert send(opened(), "a", "3", who="other").status_code == 403


def sample(request_id, at=0.0):
    return Sample("digits", request_id, at, "digits-r1", "digits:v1", "n1", "3")


def test_samples_outlive_the_gateway_and_are_forgotten_after_their_time(monkeypatch):
    now, store = [0.0], MemoryStore()
    first = Samples(store, lambda: now[0])
    first.keep(sample("old"), b"")
    first.keep(sample("new", at=kept.RETENTION_S), b"")
    first.flush()
    assert Samples(store, lambda: now[0]).truth("digits", "old", "3") is Feedback.RECORDED
    now[0] = kept.RETENTION_S + kept.SWEEP_S
    first.flush()
    assert first.truth("digits", "old", "3") is Feedback.UNKNOWN
    assert first.truth("digits", "new", "3") is Feedback.RECORDED


def test_no_more_samples_are_kept_than_the_limit(monkeypatch):
    monkeypatch.setattr(kept, "MOST_PER_SYSTEM", 3)
    now, store = [0.0], MemoryStore()
    samples = Samples(store, lambda: now[0])
    for number in range(6):
        samples.keep(sample(f"r{number}", at=float(number)), b"")
    now[0] = kept.SWEEP_S
    samples.flush()
    assert [entry.key.rpartition("/")[2] for entry in store.scan("sample/")] == ["r3", "r4", "r5"]


def test_only_so_many_requests_a_second_are_kept():
    now = [0.0]
    samples = Samples(MemoryStore(), lambda: now[0])
    taken = 0
    for tick in range(1000):
        now[0] = tick / 100
        taken += samples.takes_one()
    assert 40 <= taken <= 70
