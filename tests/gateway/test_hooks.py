"""A signed delivery starts a run once; all else is refused with its reason, and is on record."""

import asyncio
import json

import pytest

from platformops.clock import ManualClock
from platformops.delivery.ci.asked import AskedState, ended
from platformops.delivery.ci.asked_store import begin_next, load_asked, put_asked
from platformops.gateway.hooks import DELIVERED, KEPT_S, MOST_BODY_BYTES, MOST_REFUSALS_A_MINUTE, Hooks, Project
from platformops.security.audit import STORED_UNDER, broken_link
from platformops.security.webhooks import signed_headers
from platformops.store.memory import MemoryStore

SECRET = b"a secret of the two"
FORGED = signed_headers(b"another secret, as long", "m", 1_700_000_000.0, b"{}")


class Door:
    def __init__(self):
        self.clock, self.store, self.started = ManualClock(1_700_000_000.0), MemoryStore(), []
        self.hooks = Hooks(
            projects={"digits": Project("main")}, secret=SECRET, store=self.store, clock=self.clock,
            new_id=lambda: "r1", start=lambda wanted: self.started.append(wanted) or "a run was started",
        )  # fmt: skip

    def send(self, body, *, path="/hooks/digits", method="POST", headers=None, delivery="msg_1"):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = signed_headers(SECRET, delivery, self.clock.now(), content) if headers is None else headers
        raw = [(n.encode(), v.encode()) for n, v in given.items()] + [(b"content-length", b"%d" % len(content))]
        scope = {"type": "http", "method": method, "raw_path": path.encode(), "headers": raw, "client": ("10.1.1.1", 1)}
        sent = []

        async def receive():
            return {"type": "http.request", "body": content}

        async def send(message):
            sent.append(message)

        asyncio.run(self.hooks(scope, receive, send))
        return sent[0]["status"], json.loads(sent[1]["body"])

    def audited(self):
        entries = self.store.scan(STORED_UNDER)
        assert broken_link(entries) is None
        return [(e.value["outcome"], e.value["who"], e.value["reason"]) for e in entries]


@pytest.fixture
def door():
    return Door()


def test_a_signed_delivery_starts_a_run_and_is_on_record(door):
    status, answer = door.send({"revision": "abc", "who": "ada"})
    assert (status, answer) == (202, {"project": "digits", "run": "digits/1", "outcome": "a run was started"})
    assert [(w.project, w.revision, w.who) for w in door.started] == [("digits", "abc", "ada")]
    assert door.audited() == [("accepted", "ada", "standard")]


def test_a_delivery_that_comes_again_starts_nothing(door):
    door.send({"revision": "abc"})
    status, answer = door.send({"revision": "abc"})
    assert (status, answer["error"]["code"], len(door.started)) == (409, "replayed", 1)
    assert door.audited()[-1] == ("refused", "10.1.1.1", "409 replayed: this delivery came before")


def test_a_delivery_that_comes_again_is_told_the_run_that_it_led_to(door):
    run = door.send({"revision": "abc"})[1]["run"]
    assert door.send({"revision": "abc"})[1]["run"] == run
    begun, version = begin_next(door.store, "digits", "one", door.clock.now())
    assert door.send({"revision": "abc"})[1]["outcome"] == "running"
    put_asked(door.store, ended(begun, went_well=False, reason="exit 1", run_id="20260101-a"), version)
    answer = door.send({"revision": "abc"})[1]
    assert (answer["run"], answer["outcome"]) == ("digits/1", "it led to 20260101-a, failed: exit 1")


def test_what_is_accepted_is_written_down_before_it_begins(door):
    """Seen by a start that finds its run in the store, and by one that fails: the run is still to be done."""
    found = []
    door.hooks._start = lambda wanted: found.append(load_asked(door.store, wanted.project, 1)) or "begun"
    door.send({"revision": "abc"})
    assert (found[0].state, found[0].revision) == (AskedState.WAITING, "abc")
    assert begin_next(door.store, "digits", "another process", door.clock.now())[0].name == "digits/1"


def test_a_delivery_that_starts_nothing_leads_to_no_run_when_it_comes_again(door):
    push = {"ref": "refs/heads/topic"}
    door.send(push)
    assert (door.send(push)[0], "run" in door.send(push)[1]) == (409, False)
    assert not door.store.scan("asked/")


def test_another_delivery_with_the_same_content_is_another_run(door):
    door.send({"revision": "abc"}, delivery="msg_1")
    assert door.send({"revision": "abc"}, delivery="msg_2")[0] == 202
    assert len(door.started) == 2


def test_a_replay_is_known_after_a_restart(door):
    door.send({})
    again = Door()
    again.store = door.store
    again.hooks._store = door.store
    assert again.send({})[0] == 409


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        ({"body": {}, "headers": {}}, 401, "not_signed"),
        ({"body": {}, "headers": FORGED}, 401, "not_signed"),
        ({"body": {}, "path": "/hooks/cats"}, 404, "unknown_project"),
        ({"body": {}, "path": "/else"}, 404, "not_found"),
        ({"body": {}, "method": "GET"}, 405, "method_not_allowed"),
        ({"body": b"x" * (MOST_BODY_BYTES + 1)}, 413, "body_too_large"),
        ({"body": b"[1]"}, 400, "not_json"),
        ({"body": b"[" * 100_000}, 400, "not_json"),
    ],
    ids=["unsigned", "another-secret", "unknown-project", "elsewhere", "get", "oversized", "list", "nested"],
)  # fmt: skip
def test_what_is_refused_says_why_starts_nothing_and_is_on_record(door, request_, status, code):
    answered, answer = door.send(**request_)
    assert (answered, answer["error"]["code"], door.started) == (status, code, [])
    assert door.audited()[-1][0] == "refused"
    assert code in door.audited()[-1][2]


def test_whoever_is_not_believed_does_not_learn_which_projects_there_are(door):
    assert door.send({}, path="/hooks/cats", headers={})[1]["error"]["code"] == "not_signed"


def test_an_old_delivery_is_refused(door):
    headers = signed_headers(SECRET, "m", door.clock.now() - 301, b"{}")
    assert door.send({}, headers=headers)[0] == 401


def test_a_push_of_github_is_read_and_one_to_another_branch_starts_nothing(door):
    push = {"ref": "refs/heads/main", "after": "abc", "sender": {"login": "ada"}}
    assert door.send(push)[0] == 202
    assert [(w.revision, w.who) for w in door.started] == [("abc", "ada")]
    status, answer = door.send({**push, "ref": "refs/heads/topic"}, delivery="msg_2")
    assert (status, answer["outcome"], len(door.started)) == (202, "only main starts a run", 1)


def test_text_that_could_steer_a_terminal_is_not_kept(door):
    door.send({"revision": "a\x1b[31m", "who": ["ada"]})
    assert [(w.revision, w.who) for w in door.started] == [("", "")]


def test_a_flood_of_refused_deliveries_does_not_fill_the_record(door):
    for _ in range(MOST_REFUSALS_A_MINUTE + 20):
        door.send({}, headers={})
    assert len(door.audited()) == MOST_REFUSALS_A_MINUTE
    door.clock.sleep(61)
    door.send({}, headers={})
    assert len(door.audited()) == MOST_REFUSALS_A_MINUTE + 1


def test_old_deliveries_are_forgotten_in_time(door):
    door.send({}, delivery="msg_1")
    door.clock.sleep(KEPT_S + 1)
    door.send({}, delivery="msg_2")
    assert len(door.store.scan(DELIVERED)) == 1


def test_the_probe_needs_no_signature(door):
    assert door.send(b"", path="/healthz", method="GET", headers={})[0] == 200
