"""Predictions of which the truth may come back later: kept in the store under a limit, each judged once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from enum import Enum

from platformops.delivery.quality import quality_key, quality_of
from platformops.errors import StoreConflict
from platformops.gateway import rates
from platformops.gateway.inputs import Inputs
from platformops.store.records import ABSENT, Entry, JsonObject, Put, Store

PER_S = 5.0
"""Requests a second that are kept, of all systems at one gateway."""
RETENTION_S = 7 * 86_400.0
MOST_PER_SYSTEM = 50_000
SWEEP_S = 600.0
CONFLICTS = 5


@dataclass(frozen=True, slots=True)
class Sample:
    """One answered request of one item."""

    system: str
    request_id: str
    at: float
    revision: str
    model_version: str
    node: str
    label: str
    shadow: str = ""
    """The revision that answered a copy; empty without one."""
    shadow_version: str = ""
    shadow_node: str = ""
    shadow_label: str = ""
    truth: str = ""
    """The first label that came back."""
    truth_at: float = 0.0
    """When it did."""


class Feedback(Enum):
    RECORDED = "recorded"
    REPEATED = "repeated"
    CONTRADICTED = "contradicted"
    UNKNOWN = "unknown"


Judged = Callable[[Sample], None]


class Samples:
    """Kept on the gateway's loop, written and looked up from other threads."""

    def __init__(
        self,
        store: Store,
        now: Callable[[], float],
        on_truth: Judged = lambda sample: None,
        *,
        inputs: Inputs | None = None,
    ) -> None:
        """`now` in seconds since the epoch; `on_truth` is told of each sample whose truth became known; what was asked
        is kept in `inputs`."""
        self._store, self._now, self._on_truth, self._inputs = store, now, on_truth, inputs
        self._lock = threading.Lock()
        self._fresh: dict[str, Sample] = {}
        self._bucket: rates.Bucket | None = None
        self._swept_at = now()

    def takes_one(self) -> bool:
        """Whether the request that was just answered is to be kept."""
        self._bucket, wait_s = rates.take(self._bucket, rate_per_s=PER_S, now=self._now())
        return wait_s <= 0

    def keep(self, sample: Sample, content: bytes) -> None:
        if self._inputs is not None:
            self._inputs.keep(sample.system, sample.request_id, content)
        with self._lock:
            self._fresh[sample.request_id] = sample

    def answered_too(self, request_id: str, revision: str, version: str, node: str, label: str) -> None:
        """A copy of a request that is kept was answered by another revision."""
        with self._lock:
            sample = self._fresh.get(request_id)
            if sample is not None:
                self._fresh[request_id] = replace(
                    sample, shadow=revision, shadow_version=version, shadow_node=node, shadow_label=label
                )

    def flush(self) -> None:
        """What was kept is in the store on return, and what is too old is not. Raises StoreError."""
        with self._lock:
            fresh, self._fresh = self._fresh, {}
        if self._inputs is not None:
            self._inputs.flush()
        self._store.commit([Put(_key(s.system, s.request_id), asdict(s), expect=None) for s in fresh.values()])
        if self._now() - self._swept_at >= SWEEP_S:
            self._swept_at = self._now()
            self._sweep()

    def truth(self, system: str, request_id: str, label: str) -> Feedback:
        """What becomes of a label: the first one counts, however late, and however often it is repeated. A
        contradiction changes nothing. Raises StoreError."""
        if request_id in self._fresh:
            self.flush()
        for _ in range(CONFLICTS):
            entry = self._store.get(_key(system, request_id))
            if entry is None:
                return Feedback.UNKNOWN
            sample = _sample_from(entry)
            if sample.truth:
                return Feedback.REPEATED if sample.truth == label else Feedback.CONTRADICTED
            try:
                self._record(replace(sample, truth=label, truth_at=self._now()), entry.version)
            except StoreConflict:
                continue
            return Feedback.RECORDED
        raise StoreConflict(f"{request_id} is being labelled by others", remedy="send it again")

    def _record(self, sample: Sample, version: int) -> None:
        """The truth and the quality that follows from it, both or neither."""
        judged = [(sample.model_version, sample.label)]
        if sample.shadow:
            judged.append((sample.shadow_version, sample.shadow_label))
        puts = [Put(_key(sample.system, sample.request_id), asdict(sample), expect=version)]
        for model_version, label in judged:
            entry = self._store.get(quality_key(model_version))
            counted = quality_of(entry)
            value = {"labelled": counted[0] + 1, "wrong": counted[1] + (label != sample.truth)}
            puts.append(Put(quality_key(model_version), value, expect=entry.version if entry else ABSENT))
        self._store.commit(puts)
        self._on_truth(sample)

    def _sweep(self) -> None:
        by_system: dict[str, list[tuple[float, str]]] = {}
        for entry in self._store.scan("sample/"):
            sample = _sample_from(entry)
            by_system.setdefault(sample.system, []).append((sample.at, entry.key))
        oldest = self._now() - RETENTION_S
        if self._inputs is not None:
            self._inputs.sweep(oldest)
        for samples in by_system.values():
            samples.sort(reverse=True)
            gone = [key for at, key in samples if at < oldest] + [k for at, k in samples[MOST_PER_SYSTEM:]]
            self._store.commit([Put(key, None, expect=None) for key in dict.fromkeys(gone)])


def counts_of(sample: Sample) -> list[tuple[str, str, tuple[str, ...]]]:
    """Revision, node and the fields of its tally that a sample adds to, once its truth is known."""
    is_wrong = sample.label != sample.truth
    if not sample.shadow:
        return [(sample.revision, sample.node, ("labelled", "wrong") if is_wrong else ("labelled",))]
    is_shadow_wrong = sample.shadow_label != sample.truth
    own = ("only_own_wrong",) if is_shadow_wrong and not is_wrong else ()
    other = ("only_other_wrong",) if is_wrong and not is_shadow_wrong else ()
    return [(sample.shadow, sample.shadow_node, ("pairs", *own, *other))]


def _key(system: str, request_id: str) -> str:
    return f"sample/{system}/{request_id}"


def _sample_from(entry: Entry) -> Sample:
    value: JsonObject = entry.value
    texts = {name: str(value.get(name, "")) for name in Sample.__dataclass_fields__ if name not in ("at", "truth_at")}
    return Sample(**texts, at=float(str(value["at"])), truth_at=float(str(value.get("truth_at", 0.0))))
