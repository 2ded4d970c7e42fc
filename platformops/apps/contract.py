"""What an AI system is: plain functions that a user can replace one by one.

parts      source                    -> slices of it that can be read on any machine
rows       part                      -> raw rows (encoded bytes and label)
decode     request or row bytes      -> one input array
operations declared `data.prepare`   -> checked operations
settle     operations, some inputs   -> a Preparation: nothing is left to guess, on any machine
transform  input arrays, operations  -> uint8 batch; the same in training, evaluation and serving
augment    uint8 batch, operations   -> uint8 batch; training only
build_model  params                  -> a model that takes the uint8 batch (normalisation is inside)
encode     outputs, classes          -> one JSON answer a row
score      outputs, labels, classes  -> metrics
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from platformops.store.records import Json, JsonObject

if TYPE_CHECKING:
    import torch

Batch = NDArray[np.uint8]
"""Shape (rows, height, width, channels)."""
Images = Sequence[Batch] | Batch
"""Arrays of shape (height, width, channels) of any sizes, or a batch of them."""
Outputs = NDArray[np.float32]
"""Class probabilities, shape (rows, classes); each row sums to 1."""

MAX_PIXELS = 25_000_000
"""Of one image unless `data.check.max_pixels` says otherwise."""


@dataclass(frozen=True, slots=True)
class Part:
    """A slice of a source that one task reads: rows `start` to `stop` of `uri`, or the listed files of it."""

    uri: str
    start: int = 0
    stop: int | None = None
    files: tuple[tuple[str, str], ...] = ()
    """(path, label name) of class-folder sources."""
    columns: tuple[str, str] = ("image", "label")
    """Names of the content and label columns of tabular sources."""


class Row(NamedTuple):
    """One row of a source; a tuple, since a source has millions of them and a frozen class takes four times as long."""

    id: str
    """Names the row for people: file name, or source and row number."""
    content: bytes
    """Encoded as in a request body (JPEG, PNG, WebP)."""
    label: str
    """Class name; numbers as text."""
    problem: str = ""
    """Why the content could not be read (it is empty then): the row goes to quarantine with this reason."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One entry of `data.prepare`, for example name `crop`, value `center`."""

    name: str
    value: Json


@dataclass(frozen=True, slots=True)
class Preparation:
    """Operations with nothing left to guess, and what they make of a row."""

    operations: tuple[Operation, ...]
    stored_operations: int
    """How many leading ones are free of chance: they are applied once, in `prepare`, and their result is stored."""
    input_shape: tuple[int, int, int]
    """Height, width, channels of a row after all operations, chance replaced by its deterministic counterpart."""
    mean: tuple[float, ...] | None
    """Per channel on the 0 to 1 scale; None asks for the statistics of the training split."""
    std: tuple[float, ...] | None


class Decode(Protocol):
    def __call__(self, content: bytes, *, max_pixels: int = MAX_PIXELS) -> Batch:
        """One image: shape (height, width, channels). Raises BadInput."""
        ...


@dataclass(frozen=True, slots=True)
class ModelParams:
    """All that is needed to build the same model again; stored beside the weights as JSON."""

    model: str
    """A built-in name, `torchvision:NAME`, or `own` for the app's own function."""
    input_shape: tuple[int, int, int]
    """Height, width, channels of the uint8 batch."""
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    """Per channel, on the 0 to 1 scale, of the training split."""
    std: tuple[float, ...]
    options: JsonObject = field(default_factory=dict)
    """`train.params` of the spec and what the search found: width, dropout, label_smoothing..."""


@dataclass(frozen=True, slots=True)
class App:
    """The functions of one application, all present and callable."""

    name: str
    parts: Callable[[str, Mapping[str, Json]], Sequence[Part]]
    rows: Callable[[Part], Iterable[Row]]
    decode: Decode
    operations: Callable[[Sequence[Mapping[str, Json]]], tuple[Operation, ...]]
    """Raises SpecError with every problem of the list."""
    settle: Callable[[Sequence[Operation], Sequence[Batch]], Preparation]
    transform: Callable[[Images, Sequence[Operation]], Batch]
    augment: Callable[[Batch, Sequence[Operation], np.random.Generator], Batch]
    build_model: Callable[[ModelParams], torch.nn.Module]
    """Takes a uint8 tensor of shape (rows, height, width, channels), returns logits (rows, classes)."""
    encode: Callable[[Outputs, Sequence[str]], Sequence[JsonObject]]
    score: Callable[[Outputs, NDArray[np.int64], Sequence[str]], JsonObject]
