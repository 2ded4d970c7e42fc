"""Who may call what: API keys known by their hash, checked before a body is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest

from platformops.store.records import Entry

ANY_SYSTEM = "*"
OPERATE = "operate"
"""The scope of operators: it includes every other."""
MAX_KEY_BYTES = 512


@dataclass(frozen=True, slots=True)
class Grant:
    """What the holder of one key may do."""

    key_id: str
    sha256: str
    """Of the whole key, in lower-case hex."""
    scopes: frozenset[str]
    systems: frozenset[str]
    expires_at: float | None = None

    def allows(self, *, scope: str, system: str | None) -> bool:
        """`system=None` asks about what concerns the whole gateway."""
        if scope not in self.scopes and OPERATE not in self.scopes:
            return False
        return system is None or ANY_SYSTEM in self.systems or system in self.systems


NOBODY = Grant(key_id="", sha256="0" * 64, scopes=frozenset(), systems=frozenset())


class KeyRing:
    """The grants in force; immutable, replaced as a whole."""

    def __init__(self, grants: Iterable[Grant] = ()) -> None:
        self._grants: Mapping[str, Grant] = {g.sha256: g for g in grants}

    def __len__(self) -> int:
        return len(self._grants)

    def holder(self, key: bytes, *, now: float) -> Grant | None:
        """The grant of `key`, or None.

        The dictionary is searched by the digest of the key, of which nobody can choose a prefix; what decides is a
        comparison in constant time, made for unknown keys too.
        """
        digest = sha256(key[: MAX_KEY_BYTES + 1]).hexdigest()
        grant = self._grants.get(digest, NOBODY)
        if not compare_digest(grant.sha256, digest) or len(key) > MAX_KEY_BYTES:
            return None
        return None if grant.expires_at is not None and now >= grant.expires_at else grant


def key_ring(entries: Iterable[Entry]) -> KeyRing:
    """The ring of what the store holds under `key/`; revoked and unreadable records open nothing."""
    grants = (_grant(entry) for entry in entries)
    return KeyRing(g for g in grants if g is not None)


def _grant(entry: Entry) -> Grant | None:
    value = entry.value
    digest, scopes, systems = value.get("sha256"), value.get("scopes"), value.get("systems")
    if not isinstance(digest, str) or len(digest) != 64 or value.get("revoked"):
        return None
    if not isinstance(scopes, (list, tuple)) or not isinstance(systems, (list, tuple)):
        return None
    expires_at = value.get("expires_at")
    return Grant(
        key_id=entry.key.removeprefix("key/"),
        sha256=digest,
        scopes=frozenset(str(s) for s in scopes),
        systems=frozenset(str(s) for s in systems),
        expires_at=float(expires_at) if isinstance(expires_at, (int, float)) else None,
    )


def bearer(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """The key of the one `Authorization: Bearer KEY` header; None when there is none, several, or another scheme."""
    values = [value for name, value in headers if name == b"authorization"]
    if len(values) != 1:
        return None
    scheme, _, key = values[0].partition(b" ")
    key = key.strip()
    return key if scheme.lower() == b"bearer" and key else None
