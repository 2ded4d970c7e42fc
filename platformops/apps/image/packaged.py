"""Data sets that come with a library: scikit-learn's digits, and torchvision's by name."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, cast
from urllib.parse import parse_qsl, urlencode, urlsplit

import cv2
import numpy as np

from platformops.apps.contract import Batch, Part, Row
from platformops.errors import DataRefused
from platformops.store.records import Json

DIGIT_ROWS = 1797
ROWS_A_PART = 2048
QUERY = ("split", "root", "download")


class _Images(Protocol):
    """What a torchvision classification data set is."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[object, int]: ...


def digit_parts(source: str) -> Sequence[Part]:
    """The 1,797 digits of scikit-learn in four slices."""
    step = -(-DIGIT_ROWS // 4)
    return [Part(source, start, min(start + step, DIGIT_ROWS)) for start in range(0, DIGIT_ROWS, step)]


def digit_rows(part: Part) -> Iterator[Row]:
    """8x8 grey PNGs: the 17 levels of the original spread over 0 to 255."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    for index in range(part.start, DIGIT_ROWS if part.stop is None else part.stop):
        pixels = np.round(digits.images[index] * (255 / 16)).astype(np.uint8)
        yield Row(f"digits/{index}", encode_png(pixels), str(int(digits.target[index])))


def torchvision_parts(source: str, options: Mapping[str, Json]) -> Sequence[Part]:
    """Slices of `torchvision://NAME?split=train`; `root` (default `data`) and `download` are options."""
    query = dict(parse_qsl(urlsplit(source).query))
    if unknown := sorted(set(query) - set(QUERY)):
        raise DataRefused(f"{source}: unknown part {unknown[0]!r}", remedy=f"one of {list(QUERY)}")
    query.setdefault("root", str(options.get("root", "data")))
    if options.get("download"):
        query["download"] = "1"
    uri = f"{source.partition('?')[0]}?{urlencode(query)}"
    rows = len(_torchvision(uri))
    # Downloading is done here, once: tasks on other machines read what is there.
    uri = uri.replace("&download=1", "").replace("download=1&", "")
    return [Part(uri, start, min(start + ROWS_A_PART, rows)) for start in range(0, rows, ROWS_A_PART)]


def torchvision_rows(part: Part) -> Iterator[Row]:
    images = _torchvision(part.uri)
    classes = getattr(images, "classes", None)
    name = urlsplit(part.uri).netloc
    for index in range(part.start, len(images) if part.stop is None else part.stop):
        try:
            image, label = images[index]
        except (OSError, ValueError) as exc:
            yield Row(f"{name}/{index}", b"", "", problem=f"cannot be read: {exc}")
            continue
        pixels = np.asarray(image, dtype=np.uint8)
        yield Row(f"{name}/{index}", encode_png(pixels), str(classes[label]) if classes else str(label))


def encode_png(pixels: Batch) -> bytes:
    """A PNG of grey (height, width) or RGB (height, width, 3) pixels."""
    stored = pixels if pixels.ndim == 2 else np.ascontiguousarray(pixels[:, :, ::-1])
    written, content = cv2.imencode(".png", stored)
    assert written
    return content.tobytes()


def _torchvision(uri: str) -> _Images:
    from torchvision import datasets

    parsed, query = urlsplit(uri), dict(parse_qsl(urlsplit(uri).query))
    name = parsed.netloc
    if name not in datasets.__all__ or name == "ImageFolder" or not inspect.isclass(getattr(datasets, name)):
        raise DataRefused(f"{uri}: torchvision has no data set {name!r}", remedy="write its class name, as CIFAR10")
    kind = getattr(datasets, name)
    accepted = inspect.signature(kind).parameters
    split = query.get("split", "train")
    keywords: dict[str, Json] = {"root": str(Path(query["root"]))}
    wanted: dict[str, Json] = {"train": split != "test", "split": split, "download": query.get("download") == "1"}
    keywords |= {key: value for key, value in wanted.items() if key in accepted}
    try:
        return cast(_Images, kind(**keywords))
    except (RuntimeError, OSError, ValueError, TypeError) as exc:
        raise DataRefused(
            f"{uri}: {exc}",
            remedy=f"put it below {query['root']}, or allow a download with data.options: {{download: true}}",
        ) from exc
