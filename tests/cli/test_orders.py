"""The verbs that steer a release, on the store alone: the controller follows what they write."""

import pytest

from platformops.cli import settings
from platformops.delivery.documents import rollout_json
from platformops.delivery.records import RolloutState
from platformops.delivery.systems import newest_rollout, request_release, rollout_key
from platformops.registry.records import Lineage
from platformops.registry.registry import register
from platformops.spec.types import PlatformSpec
from platformops.store.records import Put


@pytest.fixture
def rollout(platformops):
    """A release of `img` that shifts traffic, written as the controller would."""
    with settings.opened_store(settings.home()) as store:
        version = register(
            store, model="img", fingerprint="f1", metrics={}, params={}, lineage=Lineage({}, {}, "run", "abc", False),
            artifacts={s: {"fingerprint": s, "manifest_digest": "m"} for s in ("train", "evaluate")}, now=0.0,
        )  # fmt: skip
        spec = PlatformSpec.model_validate({"system": "img"})
        asked = request_release(store, spec, version, classes=("a",), now=0.0)
        from dataclasses import replace

        shifting = replace(asked, state=RolloutState.SHIFTING, stable=replace(asked.candidate, number=0), steps=(
            "shadow", "100%"))  # fmt: skip
        store.commit([Put(rollout_key(asked), rollout_json(shifting), expect=None)])
    return shifting


def seen():
    with settings.opened_store(settings.home()) as store:
        return newest_rollout(store, "img")[0]


@pytest.mark.parametrize(
    ("verb", "state"), [("pause", "paused"), ("abort", "rolled_back"), ("rollback", "rolled_back")]
)
def test_an_order_is_carried_out_and_recorded_with_the_name_of_who_gave_it(platformops, rollout, verb, state):
    answer = platformops(verb, "img", "--as", "ada", "--json")
    assert answer.code == 0
    assert (answer.json["state"], answer.json["rollout"]) == (state, "img:rollout-1")
    assert "ada" in answer.json["reason"]
    assert seen().state.value == state
    assert "ada" in platformops("why", "img", "--json").json["reason"]


def test_a_paused_release_is_resumed(platformops, rollout):
    platformops("pause", "img")
    assert platformops("resume", "img", "--json").json["state"] == "shifting"


def test_an_approval_names_who_gave_it(platformops, rollout):
    assert platformops("approve", "img", "--as", "ada", "--json").json["approved_by"] == ["ada"]
    assert "ada approved img:v1" in platformops("why", "img").out


@pytest.mark.parametrize("verb", ["pause", "resume", "abort", "approve", "rollback"])
def test_an_order_for_a_system_that_is_not_there_says_so(platformops, verb):
    answer = platformops(verb, "dogs")
    assert answer.code == 2
    assert "dogs" in answer.err
    assert "fix:" in answer.err


def test_a_move_that_is_not_in_the_table_is_refused_with_what_is(platformops, rollout):
    answer = platformops("resume", "img")
    assert answer.code == 1
    assert "pause" in answer.err
