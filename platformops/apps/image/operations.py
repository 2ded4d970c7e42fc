"""The grammar of `data.prepare`: what can be written, what is wrong with it, and what it comes to for given rows."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable, Mapping, Sequence

from platformops.apps.contract import Batch, Operation, Preparation
from platformops.apps.image.geometry import MAX_SIDE, pair, unit_range
from platformops.apps.image.transforming import transform
from platformops.errors import BadInput, SpecError
from platformops.store.records import Json

CROP_KEYS = ("random", "padding", "scale")


def operations(declared: Sequence[Mapping[str, Json]]) -> tuple[Operation, ...]:
    """The checked operations of a `data.prepare` list; raises SpecError with every problem of it."""
    found: list[Operation] = []
    problems: list[str] = []
    for index, entry in enumerate(declared):
        where = f"data.prepare.{index}"
        if len(entry) != 1:
            problems.append(f"{where}: an operation has one name, for example {{resize: 32}} (got {dict(entry)!r})")
            continue
        ((name, value),) = entry.items()
        if name not in CHECKS:
            near = difflib.get_close_matches(name, CHECKS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"one of {sorted(CHECKS)}"
            problems.append(f"{where}: unknown operation {name!r}: {hint}")
        elif wrong := CHECKS[name](value):
            problems.append(f"{where}.{name}: {wrong} (got {value!r})")
        else:
            found.append(Operation(name, value))
    for name in ("normalize", "channels"):
        if sum(operation.name == name for operation in found) > 1:
            problems.append(f"data.prepare: {name} is written more than once")
    if problems:
        raise SpecError(problems)
    return tuple(found)


def settle(found: Sequence[Operation], samples: Sequence[Batch]) -> Preparation:
    """Operations with channels and size made explicit from some decoded rows.

    Colour rows decide for three channels, and rows that come in one size fix the size of the input. Raises SpecError
    where rows come in several sizes and nothing makes them one before the first random operation.
    """
    assert samples, "at least one decoded row"
    settled = list(found)
    if not any(operation.name == "channels" for operation in settled):
        settled.insert(0, Operation("channels", max(sample.shape[2] for sample in samples)))
    samples = _usable(samples, settled)
    stored = next((i for i, operation in enumerate(settled) if is_random(operation)), len(settled))
    if not any(fixes_size(operation) for operation in settled[:stored]):
        sizes = {transform([sample], settled[:stored]).shape[1:3] for sample in samples}
        if len(sizes) > 1:
            raise SpecError(
                [f"data.prepare: rows come in {len(sizes)} sizes, for example {sorted(sizes)[:2]}"],
                remedy="begin with {resize: [height, width]}, or {resize: N} and {crop: center}",
            )
        settled.insert(stored, Operation("resize", list(sizes.pop())))
        stored += 1
    mean, std = _normalization(settled)
    height, width, channels = transform(samples[:1], settled).shape[1:]
    return Preparation(tuple(settled), stored, (height, width, channels), mean, std)


def _usable(samples: Sequence[Batch], operations: Sequence[Operation]) -> Sequence[Batch]:
    """The samples without those that preparation will quarantine; all of them where none is left."""
    usable = []
    for sample in samples:
        with contextlib.suppress(BadInput):
            transform([sample], operations)
            usable.append(sample)
    return usable or samples


def is_random(operation: Operation) -> bool:
    """Whether `augment` throws dice for it."""
    return operation.name in ("flip", "cutout") or (operation.name == "crop" and isinstance(operation.value, Mapping))


def fixes_size(operation: Operation) -> bool:
    """Whether all rows leave it in one size, whatever size they came in."""
    if operation.name == "resize":
        return isinstance(operation.value, Sequence)
    return operation.name == "crop" and operation.value != "center"


def _normalization(settled: Sequence[Operation]) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    channels = next(o.value for o in settled if o.name == "channels")
    assert isinstance(channels, int)
    value = next((o.value for o in settled if o.name == "normalize"), None)
    if value == "auto":
        return None, None
    if not isinstance(value, Mapping):
        return (0.0,) * channels, (1.0,) * channels
    mean, std = _numbers(value["mean"]), _numbers(value["std"])
    for name, figures in (("mean", mean), ("std", std)):
        if len(figures) not in (1, channels):
            raise SpecError([f"data.prepare: normalize.{name} has {len(figures)} values for {channels} channels"])
    return mean * (channels // len(mean)), std * (channels // len(std))


def _numbers(value: Json) -> tuple[float, ...]:
    if isinstance(value, int | float):
        return (float(value),)
    assert isinstance(value, Sequence)
    return tuple(float(number) for number in value if isinstance(number, int | float))


def _check_size(value: Json) -> str:
    return "" if pair(value) else f"a number of pixels from 1 to {MAX_SIDE}, or [height, width]"


def _check_crop(value: Json) -> str:
    if value == "center" or pair(value):
        return ""
    if not isinstance(value, Mapping):
        return "`center`, a size, or {random: size, padding: pixels}"
    if unknown := sorted(set(value) - set(CROP_KEYS)):
        return f"unknown key {unknown[0]!r}, one of {list(CROP_KEYS)}"
    if not pair(value.get("random")):
        return "random: a number of pixels, or [height, width]"
    padding = value.get("padding", 0)
    if isinstance(padding, bool) or not isinstance(padding, int) or not 0 <= padding <= 256:
        return "padding: pixels from 0 to 256"
    if "scale" in value and ("padding" in value or not unit_range(value["scale"])):
        return "scale: [lowest, highest] share of the area, above 0 and at most 1, and no padding beside it"
    return ""


def _check_normalize(value: Json) -> str:
    wanted = "`auto`, or {mean: [...], std: [...]} on the 0 to 1 scale, std above 0"
    if value == "auto":
        return ""
    if not isinstance(value, Mapping) or set(value) != {"mean", "std"}:
        return wanted
    for figures in value.values():
        listed = figures if isinstance(figures, Sequence) and not isinstance(figures, str) else [figures]
        if not listed or any(isinstance(f, bool) or not isinstance(f, int | float) for f in listed):
            return wanted
    # The comparison is written so that NaN fails it.
    return "" if all(0 < s < 1e6 for s in _numbers(value["std"])) else wanted


CHECKS: Mapping[str, Callable[[Json], str]] = {
    "channels": lambda value: "" if value in (1, 3) and not isinstance(value, bool) else "1 (grey) or 3 (colour)",
    "resize": _check_size,
    "crop": _check_crop,
    "flip": lambda value: "" if value in ("horizontal", "vertical") else "`horizontal` or `vertical`",
    "cutout": _check_size,
    "normalize": _check_normalize,
}
"""Operation -> what is wrong with a value of it, empty when nothing is."""
