"""Opening the store, writing to it, and taking it over from a process that was killed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from platformops.store.records import ABSENT, Store
from platformops.store.sqlite import SqliteStore
from tests.faults.operations.record import Operation, Say


@contextmanager
def store_in(folder: Path) -> Iterator[Store]:
    store = SqliteStore(folder / "store.db")
    try:
        yield store
    finally:
        store.close()


def no_store(folder: Path) -> None:
    pass


def old_store(folder: Path) -> None:
    with store_in(folder) as store:
        for n in range(5):
            store.put(f"old/{n}", {"n": n}, expect=ABSENT)


def hot_store(folder: Path) -> None:
    """As a process that was killed leaves it: the newest writes are in the log alone."""
    old_store(folder)
    store = SqliteStore(folder / "store.db")
    store.put("old/5", {"n": 5}, expect=ABSENT)
    kept = {path: path.read_bytes() for path in folder.iterdir()}
    store.close()
    for path, content in kept.items():
        path.write_bytes(content)


def put_two(folder: Path, say: Say) -> None:
    with store_in(folder) as store:
        for n in range(2):
            there = store.get(f"new/{n}")
            store.put(f"new/{n}", {"n": n}, expect=there.version if there else ABSENT)
            say(f"new/{n}")


def check_puts(folder: Path, said: Sequence[str], old: int) -> None:
    with store_in(folder) as store:
        assert [e.value["n"] for e in store.scan("old/")] == list(range(old)), "what was there before"
        there = [e.key for e in store.scan("new/")]
        assert there == ["new/0", "new/1"][: len(there)], "in order"
        assert set(said) <= set(there), f"acknowledged {said}, found {there}"
    put_two(folder, lambda _: None)


ON_STORE = (
    Operation("open", no_store, put_two, lambda folder, said: check_puts(folder, said, 0)),
    Operation("put", old_store, put_two, lambda folder, said: check_puts(folder, said, 5)),
    Operation("recover", hot_store, put_two, lambda folder, said: check_puts(folder, said, 6)),
)
