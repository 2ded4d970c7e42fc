"""What a replica does of a planted defect: only a drill's revision bears one, and nothing of it is in an artifact."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from platformops.apps.contract import Batch, Outputs
from platformops.delivery.records import Planted
from platformops.errors import ArtifactCorrupt, UserError
from platformops.frameworks.records import Predictor
from platformops.gateway.call import Answer
from platformops.on_ray.replica import Served, Times, answer

MOST_KEPT_BYTES = 512 * 1024 * 1024
"""A drill of growing memory must not take the machine that it runs on."""
HANG_S = 86_400.0
FAILED = Answer(500, code="planted_defect", message="a drill: this answer was to fail")
Answering = Callable[[Served, Sequence[bytes], Times], list[Answer]]


@dataclass(slots=True)
class Every:
    """True for a share of the items that pass, evenly spread."""

    share: float
    owed: float = 0.0

    def __call__(self) -> bool:
        self.owed += self.share
        if self.owed < 1.0 - 1e-9:
            return False
        self.owed -= 1.0
        return True


def start_with(planted: Planted) -> None:
    """Ends, or raises, as a revision does that cannot start; returns for defects that show later."""
    match planted.defect:
        case "crash-at-start":
            os._exit(3)
        case "load-error":
            raise ArtifactCorrupt("a drill: model.safetensors: cannot be read")
        case "missing-dependency":
            raise ModuleNotFoundError("No module named 'planted_by_a_drill'")


def served_with(planted: Planted, served: Served) -> Served:
    """The model with the defects that sit in front of it or behind it."""
    predict = served.predictor.predict
    changed = _PREDICTING[planted.defect](predict, planted.size) if planted.defect in _PREDICTING else predict
    predictor: Predictor = replace(served.predictor, predict=changed)
    return replace(served, predictor=predictor)


def answering_with(planted: Planted) -> Answering:
    """`answer` with the defects that sit around it. Raises UserError for a defect that is not known here."""
    if planted.defect in _ANSWERING:
        return _ANSWERING[planted.defect](planted.size)
    if planted.defect not in (*_PREDICTING, *AT_START):
        raise UserError(f"no defect {planted.defect!r} is known", remedy="use one version of platformops on all nodes")
    return answer


def _nan(predict: Callable[[Batch], Outputs], size: float) -> Callable[[Batch], Outputs]:
    return lambda batch: np.full_like(predict(batch), np.nan)


def _permuted(predict: Callable[[Batch], Outputs], size: float) -> Callable[[Batch], Outputs]:
    return lambda batch: np.roll(predict(batch), 1, axis=1)


def _scaled(predict: Callable[[Batch], Outputs], size: float) -> Callable[[Batch], Outputs]:
    """As if pixels from 0 to 255 were taken for ones from 0 to 127."""
    return lambda batch: predict(batch // 2)


def _second_best(predict: Callable[[Batch], Outputs], size: float) -> Callable[[Batch], Outputs]:
    is_next = Every(size)

    def changed(batch: Batch) -> Outputs:
        outputs = predict(batch)
        for row in outputs:
            if is_next():
                first, second = np.argsort(row)[[-1, -2]]
                row[[first, second]] = row[[second, first]]
        return outputs

    return changed


def _hanging(size: float) -> Answering:
    def hang(served: Served, items: Sequence[bytes], took: Times) -> list[Answer]:
        time.sleep(HANG_S)
        return answer(served, items, took)

    return hang


def _slow(size: float) -> Answering:
    def slow(served: Served, items: Sequence[bytes], took: Times) -> list[Answer]:
        answers = answer(served, items, took)
        time.sleep(size)
        return answers

    return slow


def _failing(size: float) -> Answering:
    is_next = Every(size)
    return lambda served, items, took: [FAILED if is_next() else one for one in answer(served, items, took)]


def _growing(size: float) -> Answering:
    kept: list[bytes] = []

    def grow(served: Served, items: Sequence[bytes], took: Times) -> list[Answer]:
        if len(kept) * size < MOST_KEPT_BYTES:
            kept.extend(b"\x01" * int(size) for _ in items)
        return answer(served, items, took)

    return grow


def _renaming(size: float) -> Answering:
    return lambda served, items, took: [_renamed(one) for one in answer(served, items, took)]


def _renamed(one: Answer) -> Answer:
    """The first field of the answer under another name."""
    if not one.is_ok:
        return one
    document = json.loads(one.json)
    first = next(iter(document))
    return replace(one, json=json.dumps({f"{first}_": document.pop(first), **document}).encode("ascii"))


AT_START = frozenset({"crash-at-start", "load-error", "missing-dependency"})
_PREDICTING = {
    "nan-outputs": _nan, "permuted-labels": _permuted, "wrong-normalisation": _scaled, "accuracy": _second_best,
}  # fmt: skip
_ANSWERING = {
    "hang": _hanging, "latency": _slow, "errors": _failing, "memory-growth": _growing, "response-schema": _renaming,
}  # fmt: skip
KNOWN = AT_START | _PREDICTING.keys() | _ANSWERING.keys()
