"""A process that writes to a store until it is killed, or counts a key up: run by the durability tests."""

import sys

from platformops.errors import StoreConflict
from platformops.store.open import open_store
from platformops.store.records import ABSENT, Put


def write_for_ever(store, name):
    """Says each number once it is acknowledged: as a key of its own, and as the value of a pair of keys."""
    n = 0
    while True:
        n += 1
        pair = [Put(f"pair/{name}/{side}", {"n": n}, None) for side in "ab"]
        store.commit([Put(f"own/{name}/{n:08d}", {"n": n, "pad": "x" * 200}, ABSENT), *pair])
        print(n, flush=True)


def count(store, rounds):
    """Adds one `rounds` times by compare-and-set; says the versions it got."""
    for _ in range(rounds):
        while True:
            entry = store.get("counter")
            value, version = (entry.value["n"], entry.version) if entry else (0, ABSENT)
            try:
                print(store.put("counter", {"n": value + 1}, expect=version))
                break
            except StoreConflict:
                continue


if __name__ == "__main__":
    _, url, verb, argument = sys.argv
    opened = open_store(url)
    if verb == "write":
        write_for_ever(opened, argument)
    else:
        count(opened, int(argument))
    opened.close()
