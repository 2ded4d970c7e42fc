"""What a store on a disk must do when processes race, fork and die: SQLite and Postgres pass the same suite."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from platformops.errors import StoreConflict, StoreUnavailable
from platformops.store.open import open_store
from platformops.store.records import ABSENT, Put

WRITER = Path(__file__).with_name("store_writer.py")


def writer(url, verb, argument):
    return subprocess.Popen([sys.executable, str(WRITER), url, verb, str(argument)], stdout=subprocess.PIPE, text=True)


def test_a_store_that_is_opened_again_holds_what_was_put(durable_url):
    first = open_store(durable_url)
    first.put("k", {"kept": True}, expect=ABSENT)
    first.close()
    second = open_store(durable_url)
    assert second.get("k").value == {"kept": True}
    second.close()


def test_a_closed_store_says_so(durable_url):
    store = open_store(durable_url)
    store.close()
    for use in (lambda: store.get("k"), lambda: store.scan(""), lambda: store.put("k", {}, expect=None)):
        with pytest.raises(StoreUnavailable, match="closed by this program"):
            use()


@pytest.mark.parametrize("attempt", range(10))
def test_threads_that_open_a_new_store_at_once_all_get_the_one(durable_url, attempt):
    start = threading.Barrier(6)

    def open_together(_):
        start.wait()
        return open_store(durable_url)

    with ThreadPoolExecutor(6) as pool:
        stores = list(pool.map(open_together, range(6)))
    assert [store.put("k", {}, expect=n) for n, store in enumerate(stores)] == list(range(1, 7))
    for store in stores:
        store.close()


@pytest.mark.real
def test_many_processes_that_open_a_new_store_at_once_all_count(durable_url):
    processes = [writer(durable_url, "count", 10) for _ in range(4)]
    versions = [int(line) for process in processes for line in process.communicate(timeout=60)[0].split()]
    assert [process.returncode for process in processes] == [0] * 4
    assert sorted(versions) == list(range(1, 41)), "every version was given out exactly once"


@pytest.mark.real
def test_every_acknowledged_write_outlives_kill_9(durable_url):
    """Ten writers, each killed at another moment: nothing acknowledged is missing, nothing is half there."""
    acknowledged = {}
    for name, lines in enumerate((1, 2, 3, 5, 8, 13, 21, 34, 55, 89)):
        process = writer(durable_url, "write", name)
        for _ in range(lines):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        rest = process.communicate()[0].split()  # with a timeout it would drop what readline has read ahead
        acknowledged[name] = lines + len(rest)
    store = open_store(durable_url)
    try:
        check_acknowledged(store, acknowledged)
    finally:
        store.close()


def check_acknowledged(store, acknowledged):
    there = {entry.key: entry.value["n"] for entry in store.scan("")}  # at one instant: a server may still commit
    for name, last in acknowledged.items():
        found = [n for key, n in there.items() if key.startswith(f"own/{name}/")]
        assert found == list(range(1, len(found) + 1)), "without a gap"
        assert last <= len(found) <= last + 1, "the last one may be written and not yet said"
        pair = [there[f"pair/{name}/{side}"] for side in "ab"]
        assert pair == [len(found)] * 2, "a commit is there whole"


@pytest.mark.real
def test_a_writer_stopped_by_a_signal_does_not_keep_readers_waiting(durable_url):
    store = open_store(durable_url)
    process = writer(durable_url, "write", "stopped")
    for _ in range(5):
        process.stdout.readline()
    process.send_signal(signal.SIGSTOP)
    try:
        assert store.get("own/stopped/00000005").value["n"] == 5
    finally:
        process.kill()
        process.communicate()
        store.close()


def _child_writes(store, i):
    store.put(f"child/{i}", {"pid": os.getpid()}, expect=ABSENT)
    found = store.get("parent").value == {"n": 1}
    os._exit(0 if found else 1)


@pytest.mark.real
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_store_that_is_open_over_a_fork_works_on_both_sides(durable_url):
    store = open_store(durable_url)
    store.put("parent", {"n": 1}, expect=ABSENT)
    stop = threading.Event()

    def keep_writing():
        n = 0
        while not stop.is_set():
            n = store.put("busy", {"n": n}, expect=None)
        return n

    forking = multiprocessing.get_context("fork")
    with ThreadPoolExecutor(1) as pool:
        written = pool.submit(keep_writing)
        children = [forking.Process(target=_child_writes, args=(store, i)) for i in range(6)]
        for child in children:
            child.start()
        for child in children:
            child.join(30)
        stop.set()
    assert [child.exitcode for child in children] == [0] * 6
    assert len(store.scan("child/")) == 6
    assert store.get("busy").version == written.result()
    store.close()


KEYS = st.sampled_from(["x", "y"])
STEP = st.tuples(st.integers(0, 2), KEYS, st.sampled_from(["read", "write", "blind", "both", "delete"]))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEP, max_size=25))
def test_any_interleaving_of_writers_is_as_if_each_write_happened_at_once(durable_url, steps):
    """Three writers with what each has last read, in any order: a model of one dict tells who wins."""
    stores = [open_store(durable_url) for _ in range(3)]
    try:
        for key in "xy":
            stores[0].commit([Put(key, None, None)])
        check_interleaving(stores, steps)
    finally:
        for store in stores:
            store.close()


def check_interleaving(stores, steps):
    truth = dict.fromkeys("xy", (ABSENT, None))
    seen = [dict.fromkeys("xy", ABSENT) for _ in stores]
    for n, (who, key, verb) in enumerate(steps):
        if verb == "read":
            entry = stores[who].get(key)
            seen[who][key] = entry.version if entry else ABSENT
            assert (seen[who][key], entry and entry.value) == truth[key]
            continue
        keys = ["x", "y"] if verb == "both" else [key]
        value = None if verb == "delete" else {"n": n}
        expect = {k: None if verb == "blind" else seen[who][k] for k in keys}
        wins = all(expect[k] is None or expect[k] == truth[k][0] for k in keys)
        puts = [Put(k, value, expect[k]) for k in keys]
        if not wins:
            with pytest.raises(StoreConflict):
                stores[who].commit(puts)
            continue
        for k, version in zip(keys, stores[who].commit(puts), strict=True):
            assert version == ABSENT if value is None else version > truth[k][0]
            truth[k] = (version, value)
            seen[who][k] = version


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plans=st.lists(st.lists(KEYS, min_size=1, max_size=8), min_size=2, max_size=4))
def test_racing_threads_get_each_version_of_a_key_exactly_once(durable_url, plans):
    stores = [open_store(durable_url) for _ in plans]
    try:
        before = {key: _version(stores[0], key) for key in "xy"}
        with ThreadPoolExecutor(len(plans)) as pool:
            got = [pair for pairs in pool.map(_count_up, stores, plans) for pair in pairs]
        for key in "xy":
            versions = sorted(version for k, version in got if k == key)
            assert versions == list(range(before[key] + 1, before[key] + 1 + len(versions)))
            assert _version(stores[0], key) == before[key] + len(versions)
    finally:
        for store in stores:
            store.close()


def _count_up(store, keys):
    got = []
    for key in keys:
        while True:
            try:
                got.append((key, store.put(key, {}, expect=_version(store, key))))
                break
            except StoreConflict:
                continue
    return got


def _version(store, key):
    entry = store.get(key)
    return entry.version if entry else ABSENT
