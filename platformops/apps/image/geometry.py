"""Sizes and windows of images: what `resize` and `crop` come to for one height and width."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from platformops.apps.contract import Batch
from platformops.store.records import Json

MAX_SIDE = 4096


def pair(value: Json) -> tuple[int, int] | None:
    """(height, width) that `32` or `[24, 32]` asks for; None where it is neither."""
    sides = value if isinstance(value, Sequence) and not isinstance(value, str) else [value, value]
    if len(sides) != 2:
        return None
    height, width = sides
    if isinstance(height, bool) or isinstance(width, bool) or not isinstance(height, int) or not isinstance(width, int):
        return None
    return (height, width) if 1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE else None


def unit_range(value: Json) -> tuple[float, float] | None:
    """(lowest, highest) with 0 < lowest <= highest <= 1; None for anything else."""
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        return None
    low, high = value
    if isinstance(low, bool) or isinstance(high, bool):
        return None
    if not isinstance(low, int | float) or not isinstance(high, int | float):
        return None
    return (float(low), float(high)) if 0 < low <= high <= 1 else None


def shorter_side(height: int, width: int, side: int) -> tuple[int, int]:
    """The size in which the shorter side is `side` and the shape is kept."""
    scale = side / min(height, width)
    return max(side, round(height * scale)) if height > width else side, max(side, round(width * scale)) if (
        width > height
    ) else side


def covering(height: int, width: int, wanted: tuple[int, int]) -> tuple[int, int]:
    """The smallest size of this shape that holds `wanted`."""
    scale = max(wanted[0] / height, wanted[1] / width)
    return max(wanted[0], round(height * scale)), max(wanted[1], round(width * scale))


def resized(image: Batch, size: tuple[int, int]) -> Batch:
    """The image (height, width, channels) in this size: linear to the least multiple of it by powers of two that is no
    larger than the image, which skips no pixel, and then halved by means of 2x2 pixels.

    Close to area means over fractional pixels, at a fraction of their cost.
    """
    if image.shape[:2] == size:
        return image
    down, across = _halvings(image.shape[0], size[0]), _halvings(image.shape[1], size[1])
    channels, tall, wide = image.shape[2], size[0] << down, size[1] << across
    if image.shape[:2] != (tall, wide):
        image = np.asarray(cv2.resize(image, (wide, tall), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
    while (tall, wide) != size:
        tall, wide = max(size[0], tall // 2), max(size[1], wide // 2)
        image = np.asarray(cv2.resize(image, (wide, tall), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return image.reshape(*size, channels)


def _halvings(side: int, wanted: int) -> int:
    """How often `side` can be halved without falling below `wanted`."""
    return max(0, (side // wanted).bit_length() - 1)


def central(images: Batch, size: tuple[int, int]) -> Batch:
    """The centre of one image, or of a batch of them; the size must fit inside. What is of that size comes back."""
    height, width = images.shape[-3], images.shape[-2]
    if (height, width) == size:
        return images
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    return images[..., top : top + size[0], left : left + size[1], :]
