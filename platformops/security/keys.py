"""API keys: what is created, what of it is stored, and whose a presented key is."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from platformops.store.records import ABSENT, Entry, JsonObject, Put

PREFIX = "po_"
"""Lets secret scanners recognise a key that was committed by accident."""
STORED_UNDER = "key/"
ANY_SYSTEM = "*"
MOST_BYTES = 512
SCOPES = ("predict", "operate", "admin")
"""Rising: each includes those before it."""


@dataclass(frozen=True, slots=True)
class NewKey:
    token: str
    """What the caller presents; shown once, kept only in the caller's key file."""
    put: Put
    """What the store keeps: the token's SHA-256, and what it opens."""

    def __repr__(self) -> str:
        return f"NewKey({self.put.key})"


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose key was presented."""

    key_id: str
    scopes: tuple[str, ...]
    systems: tuple[str, ...]

    def may(self, scope: str, *, system: str | None) -> bool:
        """Whether `scope` is granted on `system`; None asks about what concerns no system in particular."""
        granted = [SCOPES.index(s) for s in self.scopes if s in SCOPES]
        reaches = system is None or ANY_SYSTEM in self.systems or system in self.systems
        return reaches and scope in SCOPES and max(granted, default=-1) >= SCOPES.index(scope)


def new_key(*, scopes: Sequence[str], systems: Sequence[str], now: float, expires_at: float | None = None) -> NewKey:
    """A fresh key of 256 random bits, and the write that makes the store know its hash."""
    unknown = [s for s in scopes if s not in SCOPES]
    assert not unknown, f"scopes are {SCOPES}"
    token = PREFIX + secrets.token_urlsafe(32)
    record: JsonObject = {
        "sha256": digest(token.encode()),
        "scopes": list(scopes),
        "systems": list(systems),
        "created_at": now,
        "expires_at": expires_at,
    }
    return NewKey(token, Put(STORED_UNDER + secrets.token_hex(8), record, expect=ABSENT))


def digest(token: bytes) -> str:
    """Lower-case hex; a plain hash is enough, since a token is random and cannot be guessed from a dictionary."""
    return sha256(token).hexdigest()


def check(entries: Iterable[Entry], presented: bytes, *, now: float) -> Identity | None:
    """Whose key `presented` is, by the entries under `key/`; None when it opens nothing, for whatever reason.

    Every entry is compared, each in constant time, so that the time taken says nothing about how near a guess was.
    """
    found = None
    actual = digest(presented[:MOST_BYTES])
    for entry in entries:
        stored = entry.value.get("sha256")
        if isinstance(stored, str) and hmac.compare_digest(stored, actual) and _is_in_force(entry, now):
            found = entry
    return _identity(found) if found and len(presented) <= MOST_BYTES else None


def _is_in_force(entry: Entry, now: float) -> bool:
    expires_at = entry.value.get("expires_at")
    expired = isinstance(expires_at, int | float) and now >= expires_at
    return not expired and not entry.value.get("revoked")


def _identity(entry: Entry) -> Identity:
    scopes, systems = entry.value.get("scopes"), entry.value.get("systems")
    return Identity(entry.key.removeprefix(STORED_UNDER), _words(scopes), _words(systems))


def _words(value: object) -> tuple[str, ...]:
    return tuple(str(v) for v in value) if isinstance(value, list | tuple) else ()
