"""Requests during a release: the candidate's failures cost users nothing and count against it."""

import asyncio
import json
from functools import partial

import pytest

from platformops.delivery.evidence import total
from platformops.delivery.records import Route
from platformops.gateway import canary
from platformops.gateway.call import Answer, ReplicaDied
from platformops.gateway.canary import OPEN_AFTER, OPEN_S, Circuit
from platformops.gateway.evidence import Book
from tests.gateway.door import PREDICTION, Door, system

CANDIDATE = "digits-r2"


def opened(share=100.0, *, shadow=False, serve=None):
    """A door whose users are tried on the candidate, or whose requests are copied to it."""
    door = Door()
    weights = {"digits-r1": 100.0} if shadow else {"digits-r1": 100.0 - share + 1e-7, CANDIDATE: share - 1e-7}
    one = system(serve=serve)
    route = Route("digits", weights, 2, CANDIDATE if shadow else "")
    from dataclasses import replace

    door.serve(replace(one, route=route))
    return door


def counted(door, revision):
    return total(door.gateway.book.tallies().revisions.get(revision, {}).values())


def behave(outcome, revision=CANDIDATE):
    async def act(asked, items):
        if asked != revision:
            return None
        found = outcome(items) if callable(outcome) else outcome
        return await found if asyncio.iscoroutine(found) else found

    return act


def died(items):
    raise ReplicaDied(CANDIDATE)


async def hang(items):
    await asyncio.sleep(60)


@pytest.mark.parametrize(
    "outcome",
    [died, lambda items: [Answer(500, code="model_output_invalid")] * len(items),
     lambda items: [Answer(422, code="bad_image")] * len(items)],
    ids=["dies", "error", "refuses what stable answers"],
)  # fmt: skip
def test_a_failure_of_the_candidate_is_answered_by_stable_and_counted_against_it(outcome):
    door = opened()
    door.replicas.behave = behave(outcome)
    reply = door.ask()
    assert reply.status_code == 200
    assert reply.json()["revision"] == "digits-r1"
    assert (counted(door, CANDIDATE).requests, counted(door, CANDIDATE).failures) == (1, 1)
    assert door.seen[-1].revision == "digits-r1"


def test_a_candidate_that_hangs_costs_half_the_time_limit_at_most():
    timeout_s = 3.0
    door = opened(serve={"timeout_s": timeout_s, "slo": {"p99_ms": 50.0, "errors": "0.1%"}})
    door.replicas.behave = behave(hang)
    reply = door.ask()
    assert (reply.status_code, reply.json()["revision"]) == (200, "digits-r1")
    assert door.seen[-1].seconds < 0.95 * timeout_s
    assert counted(door, CANDIDATE).deadlines == 1


def test_stable_is_held_to_the_same_limit_as_the_candidate():
    """Else a model that is slow in both versions would look worse in the new one."""
    door = opened(shadow=True, serve={"timeout_s": 1.0, "slo": {"p99_ms": 50.0, "errors": "0.1%"}})
    door.gateway._predicting._canary._copy = lambda *request: None

    async def slowly(items):
        await asyncio.sleep(0.6)
        return [Answer(200, json.dumps(PREDICTION).encode())]

    door.replicas.behave = behave(slowly, "digits-r1")
    assert door.ask().status_code in (200, 504)
    assert (counted(door, "digits-r1").requests, counted(door, "digits-r1").deadlines) == (1, 1)


def test_an_input_that_nobody_can_read_is_nobodys_failure():
    door = opened()
    assert door.ask(content=b"bad image").status_code == 422
    assert (counted(door, CANDIDATE).requests, counted(door, CANDIDATE).failures) == (1, 0)


def test_a_good_candidate_answers_its_own_requests():
    door = opened()
    assert door.ask().json()["revision"] == CANDIDATE
    assert (counted(door, CANDIDATE).requests, counted(door, CANDIDATE).failures) == (1, 0)
    assert [revision for revision, _ in door.replicas.calls] == [CANDIDATE]


def test_a_candidate_whose_queue_is_full_turns_nobody_away():
    door = opened(serve={"timeout_s": 3.0, "max_queue": 2, "batch": 1})
    door.replicas.behave = behave(hang)

    async def all_at_once():
        async with door.client() as client:
            headers = {**door.auth(), "content-type": "image/png"}
            asked = [client.post("/digits/predict", content=b"image", headers=headers) for _ in range(6)]
            return await asyncio.gather(*asked)

    replies = asyncio.run(all_at_once())
    assert [(reply.status_code, reply.json().get("revision")) for reply in replies] == [(200, "digits-r1")] * 6


def test_an_operator_who_pins_a_revision_leaves_no_evidence():
    door = opened()
    reply = door.ask(who="operate", headers={"x-platformops-revision": CANDIDATE})
    assert reply.json()["revision"] == CANDIDATE
    assert counted(door, CANDIDATE).trials == 0


def ask_and_wait(door, times=1):
    """Requests in one loop, until their copies have come back."""

    async def go():
        replies = []
        async with door.client() as client:
            for _ in range(times):
                headers = {**door.auth(), "content-type": "image/png"}
                replies.append(await client.post("/digits/predict", content=b"image", headers=headers))
            copies = door.gateway._predicting._canary._copies
            while copies:
                await asyncio.gather(*copies)
        return replies

    return asyncio.run(go())


def test_in_shadow_stable_answers_and_the_candidate_is_compared():
    door = opened(shadow=True)
    other = {**PREDICTION, "label": "8"}
    door.replicas.behave = behave(lambda items: [Answer(200, json.dumps(other).encode())])
    (reply,) = ask_and_wait(door)
    assert reply.json()["revision"] == "digits-r1"
    seen = counted(door, CANDIDATE)
    assert (seen.requests, seen.copies, seen.compared, seen.disagreements) == (0, 1, 1, 1)
    assert not seen.latencies, "what a copy takes says nothing: it runs beside requests of users"


def test_a_request_beside_which_a_copy_runs_is_not_timed_and_one_by_itself_is():
    door = opened(shadow=True)
    slow = asyncio.Event()

    async def waits(asked, items):
        if asked == CANDIDATE:
            await slow.wait()

    door.replicas.behave = waits

    async def go():
        async with door.client() as client:
            ask = partial(client.post, "/digits/predict", content=b"image", headers=headers)
            await ask()  # by itself; its copy begins afterwards, and stays
            await ask()
            slow.set()
            await asyncio.gather(*door.gateway._predicting._canary._copies)

    headers = {**door.auth(), "content-type": "image/png"}
    asyncio.run(go())
    seen = counted(door, "digits-r1")
    assert (seen.requests, sum(seen.latencies.values())) == (2, 1)


@pytest.mark.parametrize(
    "outcome", [died, lambda items: [Answer(422, code="bad_image")] * len(items)], ids=["dies", "refuses"]
)
def test_a_copy_that_fails_is_a_failure_that_no_user_sees(outcome):
    door = opened(shadow=True)
    door.replicas.behave = behave(outcome)
    (reply,) = ask_and_wait(door)
    assert reply.status_code == 200
    seen = counted(door, CANDIDATE)
    assert (seen.copies, seen.failures, seen.compared) == (1, 1, 0)


def test_while_requests_wait_copies_are_made_now_and_then_only(monkeypatch):
    monkeypatch.setattr(canary, "TRICKLE_S", 3600.0)
    door = opened(shadow=True)
    door.gateway._predicting._canary._is_busy = lambda revision: True
    door.gateway.samples.takes_one = lambda: False
    ask_and_wait(door, times=5)
    assert counted(door, CANDIDATE).copies == 1, "none would hold the release of a busy system for ever"
    assert counted(door, "digits-r1").requests == 5


def test_a_request_that_is_kept_for_its_label_is_copied_even_while_requests_wait(monkeypatch):
    monkeypatch.setattr(canary, "TRICKLE_S", 3600.0)
    door = opened(shadow=True)
    door.gateway._predicting._canary._is_busy = lambda revision: True
    door.gateway.samples.takes_one = iter([False, True, False, True, False]).__next__
    ask_and_wait(door, times=5)
    assert counted(door, CANDIDATE).copies == 3


def test_a_circuit_opens_after_failures_in_a_row_and_tries_again_now_and_then():
    circuit = Circuit()
    for _ in range(OPEN_AFTER):
        assert circuit.lets_through(100.0)
        circuit.record(100.0, failed=True)
    assert not circuit.lets_through(100.0 + OPEN_S / 2)
    assert circuit.lets_through(100.0 + OPEN_S)
    assert not circuit.lets_through(100.0 + 1.1 * OPEN_S)
    circuit.record(106.0, failed=False)
    assert circuit.lets_through(106.0)


def test_a_candidate_in_a_crash_loop_is_soon_asked_no_more():
    door = opened()
    door.replicas.behave = behave(died)

    replies = ask_and_wait(door, times=12)
    assert all(r.json()["revision"] == "digits-r1" for r in replies)
    assert counted(door, CANDIDATE).requests == OPEN_AFTER


def test_memory_is_sampled_at_most_once_a_second():
    now = [0.0]
    book = Book("gw", lambda: now[0])
    for at in (0.0, 0.2, 0.9, 1.0, 1.5, 2.1):
        now[0] = at
        book.sampled("img-r1", "n1", "r1", 1000)
    book.sampled("img-r1", "n1", "r2", 0)
    (memory,) = book.tallies().revisions["img-r1"]["n1"].memory.values()
    assert memory.samples == 3


def test_what_runs_no_more_is_forgotten():
    book = Book("gw", lambda: 0.0)
    book.add("img-r1", "n1", "requests")
    book.add("img-r2", "n1", "requests")
    book.keep_only(["img-r2"])
    assert set(book.tallies().revisions) == {"img-r2"}
