"""Answers of one model version, and their truths as they come back, watched as one sequence of rows."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from platformops.observation.drift.outcomes import Outcomes, outcomes_of
from platformops.observation.drift.pictures import COLUMNS
from platformops.observation.drift.records import Drift, Floats, Kind, Stream
from platformops.observation.drift.watch import Watch

REFERENCE = 200
"""The first answers of a version, and the truths that came back meanwhile, are what later ones are compared with: by
ranks, so that few are enough for validity; the later ones join them for as long as nothing changes."""
PICTURES = tuple(Stream(f"{name} of pictures", Kind.INPUT) for name in COLUMNS)


@dataclass(frozen=True, slots=True)
class Answer:
    """One answered request; `truth` and `truth_at` once it came back."""

    id: str
    at: float
    label: str
    truth: str = ""
    truth_at: float = 0.0
    profile: tuple[float, ...] = ()
    """Of the picture that was asked about, by `pictures.profile`; empty where it was not kept."""


@dataclass(frozen=True, slots=True)
class Found:
    """A change, in time."""

    drift: Drift
    since: float
    """When the row came at which its evidence begins."""
    at: float
    """When the row came that confirmed it."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One stream: means of the reference and of what came later, and the evidence for a change."""

    stream: Stream
    reference: float
    now: float
    evidence: float


@dataclass(frozen=True, slots=True)
class _Event:
    at: float
    is_truth: bool
    answer: Answer

    @property
    def order(self) -> tuple[float, bool, str]:
        return (self.at, self.is_truth, self.answer.id)


class AnswerWatch:
    """Feed it all answers of one version that are kept, as often as one likes: what it has seen is left out.

    An answer counts when it is given, its truth when that comes back: both are rows, with nothing in the other's
    streams, so that a truth that comes late is news and rewrites nothing.
    """

    def __init__(self, *, begins_anew: bool = False) -> None:
        """With `begins_anew` the answers after a change are the reference for the next one: a change is then told
        once, however long it lasts."""
        self._begins_anew = begins_anew
        self._seen: set[tuple[bool, str]] = set()
        self._reset()

    def _reset(self) -> None:
        self._begun: list[_Event] = []
        self._outcomes: Outcomes | None = None
        self._watch: Watch | None = None
        self._reference: Floats = np.empty((0, 0))
        self._later: tuple[Floats, Floats] = (np.empty(0), np.empty(0))
        self._times = array("d")
        self.answers = 0
        """Since the reference began."""

    def observe(self, answers: Sequence[Answer]) -> list[Found]:
        """The changes that what is new in `answers` confirms, oldest first."""
        return self._observe(self._fresh(answers))

    def _observe(self, events: list[_Event]) -> list[Found]:
        self.answers += sum(not e.is_truth for e in events)
        if self._watch is None:
            self._begun += events
            events = self._begin()
        if self._watch is None or not events:
            return []
        rows, before = self._rows(events), len(self._times)
        self._times.extend(e.at for e in events)
        sums, counts = self._later
        self._later = (sums + np.nansum(rows, axis=0), counts + np.isfinite(rows).sum(axis=0))
        found = [self._in_time(drift) for drift in self._watch.observe(rows)]
        if not found or not self._begins_anew:
            return found
        self._reset()
        return [found[0], *self._observe(events[found[0].drift.row - before :])]

    @property
    def missing(self) -> int:
        """Answers that are still to come before anything can be compared."""
        return max(0, REFERENCE - self.answers)

    def evidence(self) -> dict[str, float]:
        """Log evidence of the strongest stream by kind; empty before there is a reference."""
        if self._watch is None:
            return {}
        each, strongest = self._watch.evidence(), dict[str, float]()
        for stream in self._watch.streams:
            kind = stream.kind.value
            strongest[kind] = max(strongest.get(kind, each[stream.name]), each[stream.name])
        return strongest

    def compared(self) -> list[Compared]:
        """Each stream that has values before and after; empty before there is a reference."""
        if self._watch is None:
            return []
        (sums, counts), evidence, found = self._later, self._watch.evidence(), []
        for i, stream in enumerate(self._watch.streams):
            before = self._reference[np.isfinite(self._reference[:, i]), i]
            if len(before) and counts[i]:
                now = float(sums[i] / counts[i])
                found.append(Compared(stream, float(before.mean()), now, evidence[stream.name]))
        return found

    def _fresh(self, answers: Sequence[Answer]) -> list[_Event]:
        events = [_Event(a.at, False, a) for a in answers if (False, a.id) not in self._seen]
        events += [_Event(a.truth_at or a.at, True, a) for a in answers if a.truth and (True, a.id) not in self._seen]
        kept = {a.id for a in answers}  # what is no longer kept does not come again
        self._seen = {(is_truth, id) for is_truth, id in self._seen if id in kept}
        self._seen.update((e.is_truth, e.answer.id) for e in events)
        return sorted(events, key=lambda e: e.order)

    def _begin(self) -> list[_Event]:
        """The events after the reference, once that is complete."""
        at = [i for i, event in enumerate(self._begun) if not event.is_truth][REFERENCE - 1 : REFERENCE]
        if not at:
            return []
        reference, rest = self._begun[: at[0] + 1], self._begun[at[0] + 1 :]
        self._outcomes = outcomes_of([e.answer.label for e in reference if not e.is_truth])
        self._reference, self._begun = self._rows(reference), []
        self._later = (np.zeros(self._reference.shape[1]), np.zeros(self._reference.shape[1]))
        self._watch = Watch((*self._outcomes.streams, *PICTURES), self._reference)
        return rest

    def _rows(self, events: Sequence[_Event]) -> Floats:
        assert self._outcomes is not None, "made by _begin"
        told = self._outcomes.values([e.answer.label for e in events], [e.answer.truth or None for e in events])
        kinds = np.array([s.kind is Kind.PREDICTION for s in self._outcomes.streams])
        is_truth = np.array([e.is_truth for e in events])
        told = np.where(kinds[None, :] == is_truth[:, None], np.nan, told)
        pictured = np.full((len(events), len(PICTURES)), np.nan)
        for i, event in enumerate(events):
            if event.answer.profile and not event.is_truth:
                pictured[i] = event.answer.profile
        return np.concatenate([told, pictured], axis=1)

    def _in_time(self, drift: Drift) -> Found:
        return Found(drift, self._times[min(drift.since_row, len(self._times) - 1)], self._times[drift.row - 1])
