"""API keys: what is created, what of it is stored, and whose a presented key is."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
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
GRANTED_BY = {scope: frozenset(SCOPES[rank:]) for rank, scope in enumerate(SCOPES)}


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
        reaches = system is None or ANY_SYSTEM in self.systems or system in self.systems
        return reaches and not GRANTED_BY.get(scope, frozenset()).isdisjoint(self.scopes)


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


@dataclass(frozen=True, slots=True)
class Held:
    """What one key opens, and until when."""

    identity: Identity
    expires_at: float | None


class KeyRing:
    """The keys that are in force, by the digests of their tokens.

    Looking a digest up takes a time that tells nothing of any token: who guesses cannot choose what it digests to.
    """

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        """Of what the store holds under `key/`; what is revoked or unreadable opens nothing."""
        self._held = {digest: held for entry in entries for digest, held in _held(entry)}

    def check(self, presented: bytes, *, now: float) -> Identity | None:
        """Whose key `presented` is; None when it opens nothing, for whatever reason."""
        held = self._held.get(digest(presented)) if len(presented) <= MOST_BYTES else None
        return held.identity if held and (held.expires_at is None or now < held.expires_at) else None


def _held(entry: Entry) -> Iterator[tuple[str, Held]]:
    stored, expires_at = entry.value.get("sha256"), entry.value.get("expires_at")
    if not isinstance(stored, str) or entry.value.get("revoked"):
        return
    scopes, systems = entry.value.get("scopes"), entry.value.get("systems")
    identity = Identity(entry.key.removeprefix(STORED_UNDER), _words(scopes), _words(systems))
    yield stored, Held(identity, float(expires_at) if isinstance(expires_at, int | float) else None)


def _words(value: object) -> tuple[str, ...]:
    return tuple(str(v) for v in value) if isinstance(value, list | tuple) else ()
