"""What every store must do: memory, SQLite and Postgres pass the same suite."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from platformops.errors import StoreConflict, StoreError
from platformops.store.memory import MemoryStore
from platformops.store.open import open_store
from platformops.store.records import ABSENT, Put, numbered

KINDS = ["memory", "sqlite", pytest.param("postgres", marks=pytest.mark.real)]


@pytest.fixture(params=KINDS)
def connect(request, tmp_path):
    """A function that opens the same, at first empty, store again and again; memory gives the one object."""
    opened = []
    if request.param == "memory":
        only = MemoryStore()
        yield lambda: only
        return
    url = f"sqlite:///{tmp_path}/store.db" if request.param == "sqlite" else None
    url = url or request.getfixturevalue("postgres").database()

    def connect():
        opened.append(open_store(url))
        return opened[-1]

    yield connect
    for store in opened:
        store.close()


@pytest.fixture
def store(connect):
    return connect()


def test_a_key_never_written_is_none(store):
    assert store.get("step/none") is None


def test_a_put_is_read_back_with_version_one(store, connect):
    value = {"state": "done", "n": 1, "x": 0.1, "list": [1, None, True], "deep": {"a": {"b": "ü\u0000\ud800"}}}
    assert store.put("step/a", value, expect=ABSENT) == 1
    for reader in (store, connect()):
        entry = reader.get("step/a")
        assert (entry.key, entry.value, entry.version) == ("step/a", value, 1)


def test_each_put_raises_the_version_by_one(store):
    assert [store.put("k", {"i": i}, expect=i) for i in range(5)] == [1, 2, 3, 4, 5]


def test_creating_what_exists_is_refused(store):
    store.put("k", {"first": True}, expect=ABSENT)
    with pytest.raises(StoreConflict, match="k is at version 1, not absent"):
        store.put("k", {"first": False}, expect=ABSENT)
    assert store.get("k").value == {"first": True}


def test_a_put_with_a_stale_version_is_refused_and_says_both(store):
    store.put("k", {"i": 1}, expect=ABSENT)
    store.put("k", {"i": 2}, expect=1)
    with pytest.raises(StoreConflict, match="at version 2, not at version 1"):
        store.put("k", {"i": 3}, expect=1)
    assert store.get("k").value == {"i": 2}


def test_a_put_on_an_absent_key_with_a_version_is_refused(store):
    with pytest.raises(StoreConflict, match="absent, not at version 4"):
        store.put("k", {}, expect=4)
    assert store.get("k") is None


def test_a_put_for_any_version_overwrites(store):
    assert [store.put("k", {"i": i}, expect=None) for i in range(3)] == [1, 2, 3]


def test_a_commit_writes_all_of_its_puts(store):
    store.put("b", {"old": True}, expect=ABSENT)
    assert store.commit([Put("a", {"n": 1}, ABSENT), Put("b", {"n": 2}, 1), Put("c", {"n": 3}, None)]) == (1, 2, 1)
    assert [entry.value for entry in store.scan("")] == [{"n": 1}, {"n": 2}, {"n": 3}]


def test_a_commit_with_one_conflict_writes_nothing(store):
    store.put("b", {"old": True}, expect=ABSENT)
    with pytest.raises(StoreConflict):
        store.commit([Put("a", {}, ABSENT), Put("b", {}, 7), Put("c", {}, None)])
    assert [entry.key for entry in store.scan("")] == ["b"]
    assert store.get("b").value == {"old": True}


def test_an_empty_commit_does_nothing(store):
    assert store.commit([]) == ()


def test_a_commit_that_writes_a_key_twice_is_refused(store):
    with pytest.raises(StoreError, match="writes a key twice"):
        store.commit([Put("a", {}, None), Put("a", {}, None)])


def test_a_deleted_key_is_gone_and_counts_on_when_recreated(store):
    store.put("k", {"i": 1}, expect=ABSENT)
    assert store.commit([Put("k", None, 1)]) == (ABSENT,)
    assert store.get("k") is None
    assert store.scan("") == ()
    assert store.put("k", {"i": 2}, expect=ABSENT) == 3, "so that version 1 read before never matches again"
    with pytest.raises(StoreConflict):
        store.put("k", {"i": 9}, expect=1)


def test_deleting_with_a_stale_version_is_refused(store):
    store.put("k", {"i": 1}, expect=ABSENT)
    with pytest.raises(StoreConflict):
        store.commit([Put("k", None, 2)])
    assert store.get("k") is not None


def test_deleting_what_is_absent_is_allowed(store):
    assert store.commit([Put("k", None, ABSENT), Put("l", None, None)]) == (ABSENT, ABSENT)
    assert store.get("k") is None


KEYS = ["a/1", "a/10", "a/2", "a/Z", "a/a", "a/é", "a/漢", "a/\U0001f600", "ab/1", "b", "a", "a%", "a_", "a\\x"]


def test_scan_gives_every_key_with_the_prefix_in_order_of_code_points(store):
    store.commit([Put(key, {"key": key}, ABSENT) for key in KEYS])
    for prefix in ("", "a/", "a", "b", "a/1", "a%", "a_", "zzz"):
        found = store.scan(prefix)
        assert [entry.key for entry in found] == sorted(key for key in KEYS if key.startswith(prefix))
        assert all(entry.value == {"key": entry.key} and entry.version == 1 for entry in found)


def test_scan_is_limited_from_either_end(store):
    store.commit([Put(f"v/{numbered(i)}", {"i": i}, ABSENT) for i in range(1, 12)])
    assert [entry.value["i"] for entry in store.scan("v/", limit=2)] == [1, 2]
    assert [entry.value["i"] for entry in store.scan("v/", limit=2, descending=True)] == [11, 10]
    assert store.scan("v/", limit=0) == ()


BAD_VALUES = [
    {"x": float("nan")}, {"x": float("inf")}, {"x": {1: 2}}, {"x": object()}, {"x": b"bytes"}, {"x": {1, 2}}, [1], "x",
]  # fmt: skip


@pytest.mark.parametrize("value", BAD_VALUES, ids=[repr(value)[:20] for value in BAD_VALUES])
def test_a_value_that_json_cannot_hold_is_refused_by_key(store, value):
    with pytest.raises(StoreError, match="step/x"):
        store.put("step/x", value, expect=None)
    assert store.get("step/x") is None


def test_a_value_nested_without_end_is_refused(store):
    value = {}
    value["self"] = value
    with pytest.raises(StoreError, match="cannot be kept"):
        store.put("k", value, expect=None)


def test_what_is_stored_does_not_change_with_the_callers_object(store):
    value = {"list": [1]}
    store.put("k", value, expect=None)
    value["list"].append(2)
    store.get("k").value["list"].append(3)
    assert store.get("k").value == {"list": [1]}


@pytest.mark.parametrize("key", ["", "a\0b", "a\nb", "a\ud800", "x" * 1025, "a\U0010ffff"], ids=ascii)
def test_a_key_that_not_every_store_can_keep_is_refused(store, key):
    with pytest.raises(StoreError):
        store.put(key, {}, expect=None)
    with pytest.raises(StoreError):
        store.get(key)


def test_keys_and_values_are_never_read_as_commands(store):
    hostile = "x'; DROP TABLE entries; --"
    store.put(hostile, {hostile: hostile}, expect=ABSENT)
    assert store.get(hostile).value == {hostile: hostile}
    assert [entry.key for entry in store.scan("x'")] == [hostile]


def test_a_large_value_comes_back_whole(store):
    value = {"text": "é" * 2_000_000}
    store.put("k", value, expect=ABSENT)
    assert store.get("k").value == value


def test_of_writers_at_the_same_version_exactly_one_wins(connect):
    stores = [connect() for _ in range(4)]
    start = threading.Barrier(len(stores))

    def create(i):
        start.wait()
        try:
            return stores[i].put("lease/x", {"owner": i}, expect=ABSENT)
        except StoreConflict:
            return None

    with ThreadPoolExecutor(len(stores)) as pool:
        won = [i for i, version in enumerate(pool.map(create, range(len(stores)))) if version]
    assert len(won) == 1
    assert stores[0].get("lease/x").value == {"owner": won[0]}


def test_counting_by_compare_and_set_from_many_threads_loses_no_step(connect):
    stores, rounds = [connect() for _ in range(4)], 25

    def count(store):
        for _ in range(rounds):
            while True:
                entry = store.get("counter")
                value, version = (entry.value["n"], entry.version) if entry else (0, ABSENT)
                try:
                    store.put("counter", {"n": value + 1}, expect=version)
                    break
                except StoreConflict:
                    continue

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, stores * 2))  # two threads share each object
    entry = stores[0].get("counter")
    assert entry.value == {"n": 8 * rounds}
    assert entry.version == 8 * rounds


def test_blind_writes_of_unrelated_and_shared_keys_never_conflict(connect):
    stores, rounds = [connect() for _ in range(4)], 20

    def write(i):
        for n in range(rounds):
            stores[i].commit([Put("shared", {"by": i}, None), Put(f"own/{i}", {"n": n}, None), Put("b", {}, None)])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert stores[0].get("shared").version == 4 * rounds
    assert [entry.version for entry in stores[0].scan("own/")] == [rounds] * 4


def test_a_reader_sees_a_commit_whole_or_not_at_all(connect):
    writer, reader = connect(), connect()
    writer.commit([Put("pair/a", {"n": 0}, None), Put("pair/b", {"n": 0}, None)])
    done = threading.Event()

    def write():
        for n in range(1, 150):
            writer.commit([Put("pair/a", {"n": n}, None), Put("pair/b", {"n": n}, None)])
        done.set()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(write)
        while not done.is_set():
            a, b = reader.scan("pair/")
            assert a.value == b.value
