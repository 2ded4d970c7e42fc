"""What a training says of itself, and that a checkpoint that is asked for is written at once."""

import os
from dataclasses import replace

import pytest

from platformops.clock import ManualClock
from platformops.health.nodes import Gang, Step
from platformops.on_ray.cadence import Cadence
from platformops.on_ray.gangs import FIRST_CHECKPOINT_S, account_of, request_file
from platformops.on_ray.stuck import Beat, Section
from platformops.pipeline.records import Owner

BEAT = Beat(Owner("host", "machine", 7, "1"), 3, Section.STEP, 10.0, node="n1")


def test_a_gang_tells_its_nodes_and_what_all_of_it_would_lose():
    beats = [replace(BEAT, longest_s={"checkpoint": 0.4}), replace(BEAT, node="n2"), BEAT]
    account = account_of(beats, number=5, unsaved_s=12.34)
    assert account.nodes == ("n1", "n2")
    assert account.gang("digits", "n1") == Gang(slots=3, unsaved_s=12.3, checkpoint_s=0.4, name="digits")
    paced = replace(account, paces={"n2": (2, [7, 0.5])})  # as JSON brings it
    assert [paced.gang("digits", node).step for node in account.nodes] == [None, Step(7, 0.5)]
    assert paced.gang("digits", "n2").ranks == 2


def test_before_the_first_checkpoint_its_cost_is_assumed_and_an_ended_gang_tells_nothing():
    assert account_of([BEAT], number=1, unsaved_s=0.0).checkpoint_s == FIRST_CHECKPOINT_S
    assert account_of([replace(BEAT, section=Section.ENDED)], number=1, unsaved_s=0.0) is None
    assert account_of([], number=1, unsaved_s=0.0) is None


@pytest.mark.parametrize("was_asked_before", [False, True])
def test_a_checkpoint_that_is_asked_for_is_due_at_once_and_once(tmp_path, was_asked_before):
    file, clock = request_file(tmp_path), ManualClock(0.0)
    if was_asked_before:  # of an earlier group of the same training
        file.write_text("1")
        os.utime(file, (1.0, 1.0))
    cadence = Cadence(clock, failures=0, request=file)
    cadence.saved(10.0)
    clock.sleep(1.0)
    assert not cadence.is_due()
    file.write_text("2")
    clock.sleep(1.0)
    assert cadence.is_due()
    cadence.saved(10.0)
    clock.sleep(1.0)
    assert not cadence.is_due()
