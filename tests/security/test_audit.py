"""A record that was changed shows."""

from dataclasses import replace

import pytest

from platformops.errors import StoreConflict
from platformops.security.audit import STORED_UNDER, Audited, audit_put, broken_link
from platformops.store.memory import MemoryStore


@pytest.fixture
def store():
    store = MemoryStore()
    for number in range(4):
        store.commit([audit_put(store, Audited(f"run {number}", "ada", "accepted", "", float(number)))])
    return store


def test_a_record_as_it_was_written_is_whole(store):
    assert broken_link(store.scan(STORED_UNDER)) is None
    assert broken_link(()) is None


def test_a_changed_a_missing_and_a_swapped_entry_are_named(store):
    entries = list(store.scan(STORED_UNDER))
    changed = replace(entries[1], value={**entries[1].value, "who": "eve"})
    assert broken_link([entries[0], changed, *entries[2:]]) == "audit/00000002"
    assert broken_link([entries[0], *entries[2:]]) == "audit/00000003"
    assert broken_link(entries[1:]) == "audit/00000002"
    assert broken_link([entries[1], entries[0], *entries[2:]]) == "audit/00000002"


def test_of_two_who_write_at_once_the_second_tries_again(store):
    one, other = (audit_put(store, Audited("x", who, "accepted", "", 9.0)) for who in ("ada", "eve"))
    store.commit([one])
    with pytest.raises(StoreConflict):
        store.commit([other])
