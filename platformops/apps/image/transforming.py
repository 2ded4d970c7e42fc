"""Pixels -> what the model takes: the deterministic operations everywhere, the random ones in training only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import cv2
import numpy as np

from platformops.apps.contract import MAX_PIXELS, Batch, Images, Operation
from platformops.apps.image.geometry import central, covering, pair, resized, shorter_side, unit_range
from platformops.errors import BadInput
from platformops.store.records import Json

MAX_ASPECT = 4 / 3
"""Of a random window: wider or narrower ones make objects unlike themselves."""


def transform(images: Images, operations: Sequence[Operation]) -> Batch:
    """Images (height, width, channels) -> one batch; random operations take their deterministic counterpart.

    All results must have one size, which the operations of a Preparation see to. Raises BadInput (`extreme_shape`).
    """
    if isinstance(images, np.ndarray) and not any(changes(images, operation) for operation in operations):
        return images
    steps = _steps(operations)
    head = images[0]
    first = _through(head, steps)
    # Images of one size that nothing changes, as many sources have them, are put together as they are.
    if first is head and len({image.shape for image in images}) == 1:
        return _stacked(list(images))
    return _stacked([first, *(_through(image, steps) for image in images[1:])])


def _stacked(images: Sequence[Batch]) -> Batch:
    """What numpy's `stack` gives, in a third of its time for small images. Raises its error where sizes differ."""
    if len({image.shape for image in images}) != 1:
        return np.stack(images)
    return np.concatenate(images).reshape(len(images), *images[0].shape)


def augment(batch: Batch, operations: Sequence[Operation], rng: np.random.Generator) -> Batch:
    """The batch after all operations, with dice thrown for each row; the input is left as it is."""
    for operation in operations:
        if operation.name == "crop" and isinstance(operation.value, Mapping):
            batch = _random_crop(batch, operation.value, rng)
        elif operation.name == "flip":
            batch = _random_flip(batch, axis=2 if operation.value == "horizontal" else 1, rng=rng)
        elif operation.name == "cutout":
            batch = _cutout(batch, operation.value, rng)
        else:
            batch = transform(batch, [operation])
    return batch


def changes(images: Batch, operation: Operation) -> bool:
    """Whether the operation does anything to images of this shape where there is no chance."""
    return any(step(images[0]).shape != images.shape[1:] for step in _steps([operation]))


Step = Callable[[Batch], Batch]


def _steps(operations: Sequence[Operation]) -> list[Step]:
    """What the operations do to one image, their values read once and not for each image."""
    return [DETERMINISTIC[o.name](o.value) for o in operations if o.name in DETERMINISTIC]


def _through(image: Batch, steps: Sequence[Step]) -> Batch:
    for step in steps:
        image = step(image)
    return image


def _channels_step(channels: Json) -> Step:
    def with_channels(image: Batch) -> Batch:
        if image.shape[2] == channels:
            return image
        if channels == 3:
            return np.repeat(image, 3, axis=2)
        return np.asarray(cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY), dtype=np.uint8)[:, :, None]

    return with_channels


def _resize_step(value: Json) -> Step:
    if isinstance(value, int):
        return lambda image: _grown(image, shorter_side(image.shape[0], image.shape[1], value))
    size = pair(value)
    assert size is not None
    return lambda image: resized(image, size)


def _crop_step(value: Json) -> Step:
    if value == "center":
        return lambda image: central(image, (min(image.shape[:2]),) * 2)
    size = pair(value["random"] if isinstance(value, Mapping) else value)
    assert size is not None
    scales = isinstance(value, Mapping) and "scale" in value

    def crop(image: Batch) -> Batch:
        if scales or image.shape[0] < size[0] or image.shape[1] < size[1]:
            image = _grown(image, covering(image.shape[0], image.shape[1], size))
        return central(image, size)

    return crop


DETERMINISTIC: Mapping[str, Callable[[Json], Step]] = {
    "channels": _channels_step,
    "resize": _resize_step,
    "crop": _crop_step,
}
"""Operation -> what a value of it does to one image; `crop` takes the centre where training throws dice."""


def _grown(image: Batch, size: tuple[int, int]) -> Batch:
    """The image in a size that follows from its own shape; a line of pixels would grow to gigabytes."""
    if size[0] * size[1] > max(MAX_PIXELS, image.shape[0] * image.shape[1]):
        raise BadInput(
            "extreme_shape",
            f"the image is {image.shape[1]}x{image.shape[0]} pixels, too long and narrow to be scaled",
            remedy="cut it to the part that matters",
        )
    return resized(image, size)


def _random_crop(batch: Batch, value: Mapping[str, Json], rng: np.random.Generator) -> Batch:
    size, scale, padding = pair(value["random"]), unit_range(value.get("scale")), value.get("padding", 0)
    assert size is not None
    assert isinstance(padding, int)
    if scale is not None:
        return _random_resized_crop(batch, size, scale, rng)
    around = max(padding, 0)
    if batch.shape[1] + 2 * around < size[0] or batch.shape[2] + 2 * around < size[1]:
        batch = transform(batch, [Operation("crop", {"random": list(size)})])
    if around:
        batch = np.pad(batch, ((0, 0), (around, around), (around, around), (0, 0)), mode="symmetric")
    tops = rng.integers(0, batch.shape[1] - size[0] + 1, len(batch))
    lefts = rng.integers(0, batch.shape[2] - size[1] + 1, len(batch))
    out = np.empty((len(batch), *size, batch.shape[3]), dtype=np.uint8)
    for row, (top, left) in enumerate(zip(tops, lefts, strict=True)):
        out[row] = batch[row, top : top + size[0], left : left + size[1]]
    return out


def _random_resized_crop(
    batch: Batch, size: tuple[int, int], scale: tuple[float, float], rng: np.random.Generator
) -> Batch:
    rows, height, width, channels = batch.shape
    areas = rng.uniform(*scale, rows) * height * width
    # Shapes are drawn on the log scale, so that 3:4 is as likely as 4:3.
    aspects = size[1] / size[0] * np.exp(rng.uniform(-np.log(MAX_ASPECT), np.log(MAX_ASPECT), rows))
    heights = np.clip(np.sqrt(areas / aspects).round().astype(int), 1, height)
    widths = np.clip(np.sqrt(areas * aspects).round().astype(int), 1, width)
    tops = (rng.random(rows) * (height - heights + 1)).astype(int)
    lefts = (rng.random(rows) * (width - widths + 1)).astype(int)
    out = np.empty((rows, *size, channels), dtype=np.uint8)
    for row in range(rows):
        window = batch[row, tops[row] : tops[row] + heights[row], lefts[row] : lefts[row] + widths[row]]
        out[row] = resized(window, size)
    return out


def _random_flip(batch: Batch, *, axis: int, rng: np.random.Generator) -> Batch:
    flipped = rng.random(len(batch)) < 0.5
    out = batch.copy()
    out[flipped] = np.flip(batch[flipped], axis=axis)
    return out


def _cutout(batch: Batch, value: Json, rng: np.random.Generator) -> Batch:
    size = pair(value)
    assert size is not None
    out = batch.copy()
    # Grey of the batch: a black square would itself be a feature.
    grey = np.asarray(batch.mean(axis=(0, 1, 2)), dtype=np.uint8)
    tops = rng.integers(1 - size[0] // 2, batch.shape[1] - size[0] // 2, len(batch))
    lefts = rng.integers(1 - size[1] // 2, batch.shape[2] - size[1] // 2, len(batch))
    for row, (top, left) in enumerate(zip(tops, lefts, strict=True)):
        out[row, max(top, 0) : top + size[0], max(left, 0) : left + size[1]] = grey
    return out
