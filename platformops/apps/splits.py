"""Which split a row belongs to, decided by its content alone."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from platformops.spec.types import SplitSpec

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def content_digest(array: NDArray[np.generic]) -> str:
    """Hex SHA-256 over type, shape and values: equal pixels have equal digests, whatever file they came in."""
    digest = hashlib.sha256(_described(array.dtype.str, array.shape))
    digest.update((array if array.flags.c_contiguous else np.ascontiguousarray(array)).data)
    return digest.hexdigest()


@lru_cache(maxsize=1024)
def _described(kind: str, shape: tuple[int, ...]) -> bytes:
    return f"{kind}{shape}".encode()


def split_of(digest: str, split: SplitSpec) -> Split:
    """The split of a row with this content digest: the same on any machine, in any order, for any other rows."""
    position = int(digest[:16], 16) / 2**64
    if position < split.train:
        return "train"
    # Shares are floats: without `test == 0` a row could fall past their sum of 0.9999999999999999.
    return "validation" if position < split.train + split.validation or split.test == 0 else "test"
