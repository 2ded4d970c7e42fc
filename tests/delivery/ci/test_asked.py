"""What deliveries asked for is carried out once, by one at a time, whoever dies meanwhile."""

import itertools

import pytest

from platformops.delivery.ci.asked import (
    ASKED,
    LEASE_S,
    MOST_ATTEMPTS,
    AskedEvent,
    AskedState,
    Held,
    Wanted,
    begun,
    ended,
    joined,
    next_run,
)
from platformops.delivery.ci.asked_store import (
    asked_from,
    asked_json,
    asked_put,
    asked_runs,
    begin_next,
    forgotten,
    kept,
    load_asked,
    put_asked,
)
from platformops.errors import InvalidTransition, StoreConflict, StoreError
from platformops.machine import advance
from platformops.store.memory import MemoryStore

NOW = 1_700_000_000.0


def ask(store, revision, project="digits", now=NOW):
    run, put = asked_put(store, Wanted(project, revision, "ada"), now)
    store.commit([put])
    return run


@pytest.mark.parametrize(("state", "event"), list(itertools.product(AskedState, AskedEvent)))
def test_every_move_is_in_the_table_or_refused(state, event):
    if (state, event) in ASKED:
        assert advance(ASKED, state, event, subject="digits/1") is ASKED[state, event]
    else:
        with pytest.raises(InvalidTransition, match="digits/1 is"):
            advance(ASKED, state, event, subject="digits/1")


def test_deliveries_while_a_run_waits_join_it_at_the_newest_revision():
    store = MemoryStore()
    assert [ask(store, r).name for r in ("a", "b", "c")] == ["digits/1"] * 3
    assert load_asked(store, "digits", 1).revision == "c"


def test_a_delivery_while_a_run_is_carried_out_is_one_more_run():
    store = MemoryStore()
    ask(store, "a")
    begin_next(store, "digits", "one", NOW)
    assert [ask(store, r).name for r in ("b", "c")] == ["digits/2"] * 2
    assert load_asked(store, "digits", 1).revision == "a"


def test_one_run_of_a_project_at_a_time_in_their_order():
    store = MemoryStore()
    ask(store, "a")
    run, version = begin_next(store, "digits", "one", NOW)
    ask(store, "b")
    assert isinstance(begin_next(store, "digits", "two", NOW + 1), Held)
    put_asked(store, ended(run, went_well=True, reason=""), version)
    second, _ = begin_next(store, "digits", "two", NOW + 2)
    assert (second.name, second.holder) == ("digits/2", "two")


def test_a_run_whose_holder_is_silent_is_begun_by_another_and_the_old_ones_end_is_refused():
    store = MemoryStore()
    ask(store, "a")
    run, version = begin_next(store, "digits", "one", NOW)
    run, version = kept(store, run, version, NOW + 20)
    held = begin_next(store, "digits", "two", NOW + LEASE_S + 19)
    assert held == Held(NOW + LEASE_S + 20, "digits/1 is carried out by one")
    again, newer = begin_next(store, "digits", "two", held.until)
    assert (again.name, again.holder, again.attempts) == ("digits/1", "two", 2)
    with pytest.raises(StoreConflict):
        put_asked(store, ended(run, went_well=False, reason="late"), version)
    put_asked(store, ended(again, went_well=True, reason="well"), newer)
    assert load_asked(store, "digits", 1).reason == "well"
    assert begin_next(store, "digits", "one", NOW + 999) is None


def test_of_two_that_begin_a_run_at_once_one_is_refused(monkeypatch):
    store = MemoryStore()
    ask(store, "a")
    read = store.scan("asked/digits/", limit=2, descending=True)
    begin_next(store, "digits", "one", NOW)
    monkeypatch.setattr(store, "scan", lambda *_, **__: read)
    with pytest.raises(StoreConflict):
        begin_next(store, "digits", "two", NOW)


def test_a_run_that_ends_its_server_each_time_is_given_up():
    run = joined(None, Wanted("digits", "a", "ada"), NOW)
    for attempt in range(MOST_ATTEMPTS):
        run = begun(next_run([run], "one", NOW + attempt * LEASE_S), "one", NOW + attempt * LEASE_S)
        assert run.state is AskedState.RUNNING
    given_up = begun(run, "one", NOW + 999)
    assert (given_up.state, given_up.reason) == (AskedState.FAILED, "it was begun 5 times and never ended")


def test_projects_do_not_wait_for_each_other():
    store = MemoryStore()
    ask(store, "a", "cats")
    ask(store, "b", "digits", NOW + 1)
    begin_next(store, "cats", "one", NOW)
    assert begin_next(store, "digits", "two", NOW)[0].revision == "b"
    assert [run.project for run in asked_runs(store, 10)] == ["cats", "digits"]
    assert [run.project for run in asked_runs(store, 1)] == ["digits"]


def test_old_runs_are_forgotten_once_they_have_ended():
    store = MemoryStore()
    ask(store, "a")
    assert forgotten(store, "digits", NOW + 1, 20) == []
    run, version = begin_next(store, "digits", "one", NOW)
    put_asked(store, ended(run, went_well=False, reason="exit 1"), version)
    assert [put.key for put in forgotten(store, "digits", NOW + 1, 20)] == ["asked/digits/00000001"]
    assert forgotten(store, "digits", NOW, 20) == []


def test_a_record_is_read_as_it_was_written_and_another_is_refused():
    run = ended(begun(joined(None, Wanted("a", "1", ""), NOW), "h", NOW), went_well=True, reason="r", run_id="x")
    assert asked_from(asked_json(run)) == run
    for wrong in ({}, {**asked_json(run), "state": "asleep"}, {**asked_json(run), "number": None}):
        with pytest.raises(StoreError, match="cannot be read"):
            asked_from(wrong)
