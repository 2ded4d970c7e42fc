"""The store's protocol: small JSON documents under keys, written with the version that was read.

Keys in use (a key's parts are separated by `/` and contain none):

    step/<fingerprint>            one planned computation: state, lease, attempts, manifest digest
    latest/<system>/<stage>       what identified the stage's last step, to say why a new one is not cached
    run/<run id>                  one execution of a plan
    digest/<path digest>          digest of a source file, remembered with its size and times
    version/<model>/<number>      a registered model version
    registered/<fingerprint>/<model>   which version a fingerprint became (makes registration exactly-once)
    verdicts/<model>/<number>     what releases found out about a version
    alias/<model>/<name>          `champion`, `candidate`: a movable pointer to a version
    system/<name>                 desired and observed state of one served system
    rollout/<system>/<number>     one move of traffic from a stable revision to a candidate
    evidence/<system>/<number>    what was seen of that rollout's traffic, and the bets that its outcomes won or lost
    sample/<system>/<request id>  an answered request of which the truth may come back, for some days
    quality/<model version>       how many of a version's answers were labelled, and how many were wrong
    recipe/<system>               how a system is made again, for its drift loop
    drift/<system>                the drift loop: its state, its cause, its budget
    retraining/<system>/<number>/<phase>   what the work of a phase came to
    queue/<system>                a release that waits for the running one to end
    decision/<subject>/<number>   what was decided, on which evidence, and what would change it
    key/<key id>                  the hash of an API key, its scopes and systems
    delivered/<delivery>          a webhook that was accepted, and the run that it led to
    asked/<project>/<number>      a run that webhooks asked for, from its acceptance to its end
    audit/<number>                who asked for what by webhooks, each entry chained to the one before
    lease/<name>                  who may act (controller epoch)
    node/<node id>                how a node is, which remedy is in force, which probe is wanted
    wish/<node id>                what a person wants of a node
    health/guard                  the budget of remedies, and whether the breaker is open
    health/learnt                 what became of predictions and remedies
    health/listener               where probes report, and their key
    status/drift/<system>         the evidence of drift when answers were looked at last
    status/fleet                  what the controller saw of the nodes last
    status/controller             what the controller saw at its last tick: systems, nodes, problems
    cluster/<name>                a local cluster that `up` started: addresses and processes

A <number> is written by `numbered`, so that the order of keys is the order of numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]
JsonObject = Mapping[str, Json]

ABSENT = 0
"""The version of a key that does not exist: `expect=ABSENT` creates, and refuses to overwrite."""


@dataclass(frozen=True, slots=True)
class Entry:
    key: str
    value: JsonObject
    version: int
    """Rises by one at each write of the key. A deleted key goes on counting, so a stale version never matches again."""


@dataclass(frozen=True, slots=True)
class Put:
    """One write: `value=None` deletes. `expect` is the version that was read, ABSENT to create, None for any."""

    key: str
    value: JsonObject | None
    expect: int | None


def numbered(number: int) -> str:
    """The number as part of a key: `00000042`."""
    return f"{number:08d}"


class Store(Protocol):
    """Every method raises StoreUnavailable when the place fails, and StoreError for what no store can keep."""

    def get(self, key: str) -> Entry | None: ...

    def scan(self, prefix: str, *, limit: int | None = None, descending: bool = False) -> Sequence[Entry]:
        """Entries whose key starts with `prefix`, in key order."""
        ...

    def put(self, key: str, value: JsonObject, *, expect: int | None) -> int:
        """The key's new version; durable on return. Raises StoreConflict when `expect` is not what is there."""
        ...

    def commit(self, puts: Sequence[Put]) -> tuple[int, ...]:
        """All of `puts` or none, durable on return; the new versions in order (ABSENT for a deletion)."""
        ...

    def close(self) -> None: ...
