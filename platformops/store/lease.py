"""Who may act: a lease that the newest holder has, and whose version fences every commit of an older one."""

from __future__ import annotations

from platformops.errors import LeaseLost
from platformops.store.records import ABSENT, Entry, JsonObject, Put, Store


def take(store: Store, name: str, holder: str, now: float) -> int:
    """The epoch of a holder that starts: every earlier one can neither commit nor act from here on."""
    entry = store.get(name)
    epoch = int(str(entry.value["epoch"])) + 1 if entry else 1
    value: JsonObject = {"epoch": epoch, "holder": holder, "taken_at": now}
    store.put(name, value, expect=entry.version if entry else ABSENT)
    return epoch


def held(store: Store, name: str, epoch: int) -> Entry:
    """The lease as it is now. Raises LeaseLost when a newer holder has it."""
    entry = store.get(name)
    if entry is None or entry.value["epoch"] != epoch:
        newer = entry.value["epoch"] if entry else "no"
        raise LeaseLost(f"this controller has epoch {epoch}, but epoch {newer} is in force")
    return entry


def fence(lease: Entry) -> Put:
    """The lease is rewritten with every commit: a newer holder's would make the whole commit conflict."""
    return Put(lease.key, lease.value, expect=lease.version)
