"""What a picture is like, in a few numbers that its encoder does not change."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from platformops.observation.drift.records import Floats

COLUMNS = ("brightness", "contrast", "dark", "bright", "red", "blue", "sharpness")
GRID = 16
"""Cells a side over which pixels are averaged: quantisation tables change the details of 8x8 blocks, not their means
over larger cells, and what a camera does to light and colour stays to be seen."""


def profile(image: NDArray[np.uint8]) -> Floats:
    """COLUMNS of one image, height x width x 3 (RGB); about 0 to 1 each."""
    cells = _cells(image.astype(np.float64) / 255.0)
    light = cells.mean(axis=2)
    across = sum(float(np.abs(np.diff(light, axis=axis)).sum()) for axis in (0, 1)) / light.size
    contrast = float(light.std())
    low, high = np.quantile(light, [0.1, 0.9])
    tint = cells.mean(axis=(0, 1)) - light.mean()
    return np.array([light.mean(), contrast, low, high, tint[0], tint[2], across / (contrast + 0.02)])


def profiles(images: list[NDArray[np.uint8]]) -> Floats:
    """A row an image, a column each of COLUMNS."""
    return np.stack([profile(image) for image in images]) if images else np.empty((0, len(COLUMNS)))


def _cells(image: Floats) -> Floats:
    """Means over a grid of at most GRID x GRID cells, each at least two pixels wide."""
    height, width = (max(1, min(GRID, size // 2)) for size in image.shape[:2])
    rows = np.linspace(0, image.shape[0], height + 1).astype(int)[:-1]
    columns = np.linspace(0, image.shape[1], width + 1).astype(int)[:-1]
    summed = np.add.reduceat(np.add.reduceat(image, rows, axis=0), columns, axis=1)
    ones = np.ones(image.shape[:2])
    counted = np.add.reduceat(np.add.reduceat(ones, rows, axis=0), columns, axis=1)
    return np.asarray(summed / counted[:, :, None])
