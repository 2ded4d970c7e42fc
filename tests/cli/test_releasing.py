"""Who asks for a release is kept waiting only for what comes by itself and soon."""

import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest

from platformops.cli.releasing import FIRST_LOOK_S, LONGEST_S, Wish, release
from platformops.clock import ManualClock
from platformops.delivery.documents import rollout_json
from platformops.delivery.ledger import opened
from platformops.delivery.ledger_documents import ledger_json
from platformops.delivery.records import RolloutState
from platformops.delivery.systems import ledger_key, load_rollout, request_release, rollout_key
from platformops.errors import Cancelled, ClusterError, GateRefused
from platformops.registry.records import Lineage
from platformops.registry.registry import register
from platformops.spec.types import PlatformSpec
from platformops.store.memory import MemoryStore
from platformops.store.records import Put

SPEC = PlatformSpec.model_validate({"system": "img"})


class Waits(ManualClock):
    """A clock on which something may happen at an instant."""

    def __init__(self):
        super().__init__(0.0)
        self.events = {}

    def sleep(self, duration_s):
        super().sleep(duration_s)
        for at in [at for at in self.events if at <= self.now()]:
            self.events.pop(at)()


class Desk:
    """A session without a cluster, and a release that stands where `put` says."""

    def __init__(self):
        self.clock, self.store, self.shown = Waits(), MemoryStore(), []
        self.session = SimpleNamespace(
            clock=self.clock, store=self.store, show=self.shown.append, cancelled=threading.Event()
        )
        self.ran = SimpleNamespace(version=self.version(1), planned=SimpleNamespace(spec=SPEC))
        self.rollout = request_release(self.store, SPEC, self.ran.version, classes=("a",), now=0.0)

    def version(self, number):
        return register(
            self.store, model="img", fingerprint=f"f{number}", metrics={}, params={"data": {"classes": ["a"]}},
            artifacts={s: {"fingerprint": f"{s}{number}", "manifest_digest": "m"} for s in ("train", "evaluate")},
            lineage=Lineage({}, {}, "run", "abc", False), now=0.0,
        )  # fmt: skip

    def put(self, state, **changed):
        stable = replace(self.rollout.candidate, number=0)
        rollout = replace(self.rollout, state=state, stable=stable, steps=("shadow", "100%"), **changed)
        ledger = opened("img-r1", "img-r0", (), 0.0)
        self.store.commit([
            Put(rollout_key(rollout), rollout_json(rollout), expect=None),
            Put(ledger_key(rollout), ledger_json(ledger), expect=None),
        ])  # fmt: skip

    def release(self, **options):
        return release(self.ran, self.session, Wish(**options))


@pytest.fixture
def desk():
    return Desk()


def test_a_release_on_an_idle_system_is_left_to_itself_with_what_it_lacks(desk):
    desk.put(RolloutState.SHIFTING, routed_at=0.0)
    asked = desk.release()
    assert asked.rollout.state is RolloutState.SHIFTING
    assert "none come at present" in asked.waiting
    assert desk.clock.now() <= FIRST_LOOK_S + 1


@pytest.mark.parametrize(
    ("state", "said"),
    [(RolloutState.PAUSED, "platformops resume img"), (RolloutState.HALTED, "platformops abort img"),
     (RolloutState.AWAITING, "platformops approve img")],
)  # fmt: skip
def test_what_waits_for_a_person_is_not_waited_for_and_says_what_to_do(desk, state, said):
    desk.put(state)
    assert said in desk.release().waiting


def test_a_release_that_ends_soon_is_waited_for(desk):
    desk.put(RolloutState.DEPLOYING)
    desk.clock.events[30.0] = lambda: desk.put(RolloutState.PROMOTED)
    asked = desk.release()
    assert (asked.rollout.state, asked.waiting) == (RolloutState.PROMOTED, "")
    assert desk.shown[-1].state == "done"


def test_who_watches_stays_however_long_it_takes(desk):
    desk.put(RolloutState.SHIFTING, routed_at=0.0)
    desk.clock.events[1.1 * LONGEST_S] = lambda: desk.put(RolloutState.ROLLED_BACK)
    assert desk.release(watch=True).rollout.state is RolloutState.ROLLED_BACK
    assert any("exposed 0 of 0 requests" in progress.message for progress in desk.shown)


def test_a_release_that_nobody_turns_is_a_fault_of_the_cluster(desk):
    with pytest.raises(ClusterError, match="still pending"):
        desk.release()


def test_an_interrupted_wait_leaves_the_release_running(desk):
    desk.session.cancelled.set()
    with pytest.raises(Cancelled, match="goes on without you"):
        desk.release()
    assert load_rollout(desk.store, "img", 1).state is RolloutState.PENDING


def test_another_version_is_refused_while_one_is_released_unless_it_may_wait_in_the_queue(desk):
    desk.ran.version = desk.version(2)
    with pytest.raises(GateRefused, match="--queue"):
        desk.release()
    asked = desk.release(queue=True)
    assert asked.rollout.number == 0
    assert "starts when the running release has ended" in asked.waiting


def test_who_approves_beforehand_is_put_on_record_once_the_release_wants_it(desk):
    desk.put(RolloutState.AWAITING, terms=replace(desk.rollout.terms, approvers=("ada",)))
    desk.clock.events[5.0] = lambda: desk.put(RolloutState.PROMOTED)
    seen = []
    desk.clock.events[4.0] = lambda: seen.append(load_rollout(desk.store, "img", 1))
    assert desk.release(approver="ada").rollout.state is RolloutState.PROMOTED
    assert [(a.who, a.of) for a in seen[0].approvals] == [("ada", "traffic")]


def test_who_may_not_approve_ends_the_wait_with_those_who_may(desk):
    desk.put(RolloutState.AWAITING, terms=replace(desk.rollout.terms, approvers=("ada",)))
    with pytest.raises(GateRefused, match="eve may not approve"):
        desk.release(approver="eve")
