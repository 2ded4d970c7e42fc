"""Plain records of the observation room: what a report shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from platformops.store.records import JsonObject


@dataclass(frozen=True, slots=True)
class Picture:
    """An image as PNG, JPEG or WebP bytes."""

    content: bytes
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Mistake:
    """A test row that was answered wrongly, with the probability that the model gave its answer."""

    picture: Picture
    id: str
    truth: str
    answer: str
    probability: float


@dataclass(frozen=True, slots=True)
class Report:
    """Everything on the page, as plain records."""

    title: str
    """The system's name."""
    classes: Sequence[str]
    metrics: JsonObject
    """The content of `metrics.json`."""
    history: Sequence[JsonObject] = ()
    """The entries of `history.json`: `epoch`, `loss`, `accuracy`, `lr`."""
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Split -> class -> rows."""
    quarantined: Sequence[tuple[str, str]] = ()
    """(id, reason) of rows that could not be read."""
    samples: Mapping[str, Sequence[Picture]] = field(default_factory=dict)
    """Class -> a few training images."""
    mistakes: Sequence[Mistake] = ()
    """Worst first."""
    params: JsonObject = field(default_factory=dict)
    lineage: JsonObject = field(default_factory=dict)
