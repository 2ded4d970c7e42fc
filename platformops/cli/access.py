"""The key with which this user reaches a system: made once, kept in a file that only its owner can read."""

from __future__ import annotations

from pathlib import Path

from platformops.clock import Clock
from platformops.home import Home
from platformops.security.key_file import read_key_file, write_key_file
from platformops.security.keys import STORED_UNDER, KeyRing, new_key
from platformops.store.records import Store


def key_file(system: str, where: Home) -> Path:
    return where.keys / f"{system}.key"


def ensure_key(system: str, where: Home, store: Store, clock: Clock) -> Path:
    """The file of a key that opens `system`; a new one when there is none, or the store does not know it."""
    return ensure_key_in(key_file(system, where), store, clock, scope="predict", system=system)


def ensure_key_in(path: Path, store: Store, clock: Clock, *, scope: str, system: str) -> Path:
    """The same for a file of one's own, with what the key may do and for which system (`*` for all)."""
    token = read_key_file(path)
    if token is None or KeyRing(store.scan(STORED_UNDER)).check(token.encode(), now=clock.now()) is None:
        made = new_key(scopes=(scope,), systems=(system,), now=clock.now())
        store.commit([made.put])
        write_key_file(path, made.token)
    return path
