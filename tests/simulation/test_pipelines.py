"""Delivery pipelines that are run twice, or two at once: releases come one after another, and each only once."""

import random

import pytest

from platformops.delivery.records import RolloutState
from platformops.delivery.rollout import is_running
from platformops.delivery.systems import load_rollout, rollouts
from platformops.errors import GateRefused, StoreConflict
from platformops.registry.registry import list_versions
from tests.simulation.world import World


def pipeline(world, number, told):
    """The release stage of one pipeline, retried when it is refused; stops wherever another may act."""
    while True:
        try:
            asked = world.release(number)
            break
        except (GateRefused, StoreConflict) as refused:
            told.append(refused.message)
            yield
    while is_running(load_rollout(world.store, "img", asked.number)):
        yield


def promoted(world):
    return sorted(r.candidate.version for r in rollouts(world.store, "img") if r.state is RolloutState.PROMOTED)


@pytest.mark.parametrize("seed", range(12))
def test_two_pipelines_at_once_release_one_after_the_other_whatever_their_order_and_whoever_dies(seed):
    luck, world, told = random.Random(seed), World(), []
    world.kill_at = {luck.randrange(150) for _ in range(3)}
    going = [pipeline(world, number, told) for number in (1, 2)]
    for _ in range(4000):
        if not going:
            break
        acting = luck.choice([*going, None])
        if acting is None:
            world.turn()  # checks at each turn that one rollout runs at most
        elif next(acting, "ended") == "ended":
            going.remove(acting)
    assert not going, "both pipelines came to their end"
    world.until_settled()
    assert promoted(world) == [1, 2]
    assert len(rollouts(world.store, "img")) == 2
    assert any("is being released" in message for message in told), "the second was told why it has to wait"


@pytest.mark.parametrize("commit", [1, 2])
def test_a_pipeline_that_is_overtaken_between_its_look_and_its_commit_releases_nothing(commit, monkeypatch):
    """The commits of a pipeline's release stage are the registration and the request."""
    world, real, count = World(), World.release, []
    write = world.store.commit

    def overtaken(puts):
        count.append(1)
        if len(count) == commit:
            monkeypatch.setattr(world.store, "commit", write)
            real(world, 2)
        return write(puts)

    monkeypatch.setattr(world.store, "commit", overtaken)
    with pytest.raises((GateRefused, StoreConflict)):
        world.release(1)
    versions = {version.number: version.fingerprint for version in list_versions(world.store, "img")}
    assert [versions[r.candidate.version] for r in rollouts(world.store, "img")] == ["f2"]
    world.until_settled()
    assert len(promoted(world)) == 1


def test_a_pipeline_that_is_run_again_at_any_moment_registers_and_releases_once():
    world = World()
    world.release(1)
    world.until_settled()
    for moment in range(0, 40, 3):
        world = World(kill_at={moment})
        asked = world.release(1)
        for _ in range(moment):
            world.turn()
        assert world.release(1).number == asked.number, moment
        world.until_settled()
        assert world.release(1).state is RolloutState.PROMOTED
        assert (len(list_versions(world.store, "img")), promoted(world)) == (1, [1]), moment
