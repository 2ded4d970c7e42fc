"""The loop around the decisions: each act is written down before it is done, and none of them ends the keeper."""

import json

from platformops.clock import ManualClock
from platformops.delivery.decisions import explain
from platformops.errors import ClusterError
from platformops.keeper.loop import SUBJECT, keep
from platformops.keeper.records import Sighting, StartGcs
from platformops.store.memory import MemoryStore

WELL = Sighting(True, has_gcs=True, has_raylet=True, can_start_gcs=True)
NO_GCS = Sighting(True, has_gcs=False, has_raylet=True, can_start_gcs=True)
OVER = Sighting(False, has_gcs=False, has_raylet=False, can_start_gcs=False)


class FakeMachine:
    """Shows one sighting after another; acts fail with the errors that it was given, in order."""

    def __init__(self, clock, sightings, errors=()):
        self._clock, self._sightings, self._errors, self.acts = clock, list(sightings), list(errors), []

    def look(self):
        return self._sightings.pop(0)

    def act(self, act):
        self.acts.append(act)
        if self._errors:
            raise self._errors.pop(0)

    def wait(self, timeout_s):
        self._clock.sleep(timeout_s)


def kept(tmp_path, sightings, errors=()):
    clock, store = ManualClock(), MemoryStore()
    machine = FakeMachine(clock, sightings, errors)
    keep(machine, store, clock, tmp_path / "logs" / "keeper.jsonl", is_ended=lambda: False)
    log = tmp_path / "logs" / "keeper.jsonl"
    return machine.acts, store, [json.loads(line) for line in log.read_text().splitlines()][1:]


def test_the_keeper_ends_when_nothing_is_to_be_kept(tmp_path):
    assert kept(tmp_path, [WELL, WELL, OVER])[0] == []


def test_an_act_is_in_the_log_and_under_why_with_its_reason(tmp_path):
    acts, store, log = kept(tmp_path, [NO_GCS, WELL, OVER])
    assert [type(act) for act in acts] == [StartGcs]
    assert [line["event.action"] for line in log] == ["decided", "done"]
    (decision,) = explain(store, SUBJECT)
    assert (decision.decision, decision.reason) == ("start the GCS again", acts[0].reason)


def test_an_act_that_fails_is_decided_again_and_its_reason_is_told(tmp_path):
    errors = [ClusterError("the port is taken"), OSError("no memory")]
    acts, _, log = kept(tmp_path, [NO_GCS] * 5 + [OVER], errors)
    assert len(acts) >= 2
    failed = [line["message"] for line in log if line["event.action"] == "failed"]
    assert failed[0] == "the port is taken"
    assert "no memory" in failed[1]


def test_a_keeper_that_is_told_to_end_does_nothing_more(tmp_path):
    machine = FakeMachine(ManualClock(), [NO_GCS])
    keep(machine, MemoryStore(), ManualClock(), tmp_path / "log", is_ended=lambda: True)
    assert machine.acts == []
