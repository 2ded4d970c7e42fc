"""What kept inputs are like, in the few numbers that drift is watched by."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import numpy as np

from platformops.apps.image.decoding import decode
from platformops.errors import BadInput
from platformops.observation.drift.pictures import profile


def profiles(contents: Mapping[str, bytes]) -> dict[str, tuple[float, ...]]:
    """By request; nothing for what is no picture."""
    found: dict[str, tuple[float, ...]] = {}
    for id, content in contents.items():
        with suppress(BadInput):
            image = decode(content)
            found[id] = tuple(profile(np.broadcast_to(image, (*image.shape[:2], 3))).tolist())
    return found
