"""What kept inputs are like, in the few numbers that drift is watched by."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from platformops.apps.image.decoding import decode
from platformops.errors import BadInput
from platformops.observation.drift.pictures import profile


def profiles(contents: Mapping[str, bytes]) -> dict[str, tuple[float, ...]]:
    """By request; no numbers for what is no picture, of which only answers and truths are watched."""
    return {id: _profile(content) for id, content in contents.items()}


def _profile(content: bytes) -> tuple[float, ...]:
    try:
        image = decode(content)
    except BadInput:
        return ()
    return tuple(profile(np.broadcast_to(image, (*image.shape[:2], 3))).tolist())
