"""Requests and records in the store: what is asked for, what conflicts, what comes back as it was written."""

import json

import pytest

from platformops.delivery.decisions import decision_puts, explain
from platformops.delivery.documents import rollout_from, rollout_json, system_from, system_json
from platformops.delivery.records import Decision, GateResult, RolloutState, Route, System
from platformops.delivery.systems import (
    candidate_of,
    load_system,
    newest_rollout,
    request_release,
    rollouts,
    stop_system,
    system_key,
)
from platformops.errors import StoreConflict, StoreError, UserError
from platformops.registry.records import Lineage, ModelVersion
from platformops.spec.types import PlatformSpec
from platformops.store.memory import MemoryStore
from platformops.store.records import Put

NOW = 1000.0
SPEC = PlatformSpec.model_validate({"system": "img", "gates": {"accuracy": ">= 0.9"}, "serve": {"replicas": (1, 3)}})
ARTIFACTS = {s: {"fingerprint": f"{s}-f", "manifest_digest": f"{s}-m"} for s in ("train", "evaluate")}


def version(number=1, artifacts=ARTIFACTS):
    return ModelVersion("img", number, f"f{number}", artifacts, {}, {}, Lineage({}, {}, "r", "c", False), NOW)


def ask(store, number=1):
    return request_release(store, SPEC, version(number), classes=("cat", "dog"), now=NOW)


def test_a_request_carries_all_that_the_controller_needs():
    store = MemoryStore()
    rollout = ask(store)
    assert rollout.state is RolloutState.PENDING
    assert rollout.candidate.name == "img-r1"
    assert (rollout.candidate.artifact, rollout.candidate.evaluation) == ("train-f", "evaluate-f")
    assert (rollout.candidate.replicas_min, rollout.candidate.replicas_max) == (1, 3)
    assert rollout.conditions == {"accuracy": ">= 0.9"}
    system, _ = load_system(store, "img")
    assert (system.wanted, system.stable, system.route) == ("up", None, None)
    assert explain(store, "img")[0].decision == "asked for img:v1 (img-r1)"


def test_two_who_ask_at_once_for_different_versions_do_not_both_win():
    store = MemoryStore()
    real = store.commit

    def slow(puts):
        store.commit = real
        ask(store, number=2)
        return real(puts)

    store.commit = slow
    with pytest.raises(StoreConflict):
        ask(store, number=1)
    assert [r.candidate.version for r in rollouts(store, "img")] == [2]


def test_a_version_without_weights_is_refused():
    with pytest.raises(UserError, match="no artifact of the stage train"):
        candidate_of(SPEC, version(artifacts={}), (), number=1)


def test_the_tenth_rollout_comes_after_the_ninth():
    store = MemoryStore()
    for number in range(1, 12):
        rollout = ask(store, number)
        _, at = newest_rollout(store, "img")
        ended = {**rollout_json(rollout), "state": "refused"}
        store.put(f"rollout/img/{number:08d}", ended, expect=at)
    assert [r.number for r in rollouts(store, "img", limit=3)] == [11, 10, 9]


def test_rollouts_and_systems_survive_the_store_unchanged():
    rollout = ask(MemoryStore())
    judged = rollout_from(
        {
            **rollout_json(rollout),
            "gates": [{"name": "a", "passed": True, "reason": "r", "evidence": {"x": 1.5}, "would_change": "w"}],
        }
    )
    assert judged.gates == (GateResult("a", True, "r", {"x": 1.5}, "w"),)
    assert rollout_from(json.loads(json.dumps(rollout_json(judged)))) == judged
    system = System("img", judged.candidate, Route("img", {"img-r1": 100.0}, 3), {"batch": 8}, ("cat",), "up")
    assert system_from(json.loads(json.dumps(system_json(system)))) == system


@pytest.mark.parametrize(
    ("field", "value"),
    [("number", "1"), ("number", True), ("conditions", None), ("gates", "none"), ("changed_at", None), ("steps", [1])],
)
def test_a_damaged_record_is_refused_by_field(field, value):
    document = {**rollout_json(ask(MemoryStore())), field: value}
    with pytest.raises(StoreError, match=field):
        rollout_from(document)


def test_stopping_what_does_not_exist_or_is_down_does_nothing():
    store = MemoryStore()
    assert not stop_system(store, "img", now=NOW)
    ask(store)
    assert stop_system(store, "img", now=NOW)
    assert explain(store, "img")[0].decision == "img is to be down"
    assert not stop_system(store, "img", now=NOW)


def test_decisions_of_a_subject_are_numbered_and_come_newest_first():
    store = MemoryStore()
    for i in range(12):
        store.commit(
            decision_puts(store, [Decision("img", f"d{i}", "", (), "", NOW), Decision("b", "x", "", (), "", NOW)])
        )
    assert [d.decision for d in explain(store, "img", limit=2)] == ["d11", "d10"]
    assert len(explain(store, "b")) == 12
    assert explain(store, "im") == ()


def test_two_who_decide_on_one_subject_at_once_conflict():
    store = MemoryStore()
    decision = Decision("img", "d", "", (), "", NOW)
    first, second = decision_puts(store, [decision]), decision_puts(store, [decision])
    store.commit(first)
    with pytest.raises(StoreConflict):
        store.commit([Put(system_key("img"), {}, expect=None), *second])
    assert store.get(system_key("img")) is None
