"""The best plain loop that does what preparation does: one process, no platform, the libraries called directly.

    python benchmarks/preparation_loop.py OUTPUT HEIGHT WIDTH SHARE OF FILE...

Reads row groups SHARE, SHARE + OF, ... and waits for a line on its standard input before it starts, so that several
of them start together. Prints one JSON object: rows a split, sums of channels of the training split, seconds.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import simplejpeg

SHARES = {"train": 0.7, "validation": 0.85, "test": 1.0}
"""Upper ends of the platform's default split."""
MAX_PIXELS = 25_000_000


def resized(image: Any, height: int, width: int) -> Any:  # noqa: ANN401  simplejpeg and OpenCV are untyped
    """Linear to twice the size as often as the image has it, then halved: as the platform does it."""
    times = min(image.shape[0] // height, image.shape[1] // width).bit_length() - 1
    if times < 0 or image.shape[:2] != (height << times, width << times):
        times = max(0, times)
        image = cv2.resize(image, (width << times, height << times), interpolation=cv2.INTER_LINEAR)
    for left in reversed(range(times)):
        image = cv2.resize(image, (width << left, height << left), interpolation=cv2.INTER_AREA)
    return image


def split_of(digest: str) -> str:
    position = int(digest[:16], 16) / 2**64
    return "train" if position < SHARES["train"] else "validation" if position < SHARES["validation"] else "test"


def prepare(output: Path, size: tuple[int, int], groups: list[tuple[str, int]], share: int) -> dict[str, Any]:
    """Decoded, split by content, resized, and written as one file of pixels a split, with labels and ids beside it."""
    files = {split: open(output / f"{share}-{split}.bin", "wb", buffering=0) for split in SHARES}  # noqa: SIM115
    labels: dict[str, list[str]] = {split: [] for split in SHARES}
    ids: dict[str, list[str]] = {split: [] for split in SHARES}
    sums = np.zeros((2, 3))
    opened: dict[str, pq.ParquetFile] = {}
    for path, number in groups:
        file = opened.setdefault(path, pq.ParquetFile(path))
        name = "id" if "id" in file.schema_arrow.names else "file"
        table = file.read_row_group(number, columns=["image", "label_name", name])
        waiting: dict[str, list[Any]] = {split: [] for split in SHARES}
        for content, label, row_id in zip(*(column.to_pylist() for column in table.columns), strict=True):
            height, width, _, _ = simplejpeg.decode_jpeg_header(content)
            if height * width > MAX_PIXELS:
                continue
            image = simplejpeg.decode_jpeg(content)
            digest = hashlib.sha256(f"|u1{image.shape}".encode())
            digest.update(image)
            split = split_of(digest.hexdigest())
            waiting[split].append(image if image.shape[:2] == size else resized(image, *size))
            labels[split].append(label)
            ids[split].append(row_id)
        for split, images in waiting.items():
            if images:
                batch = np.stack(images)
                files[split].write(batch.data)
                if split == "train":
                    mean, deviation = (found.ravel() / 255 for found in cv2.meanStdDev(batch.reshape(-1, 1, 3)))
                    sums += np.stack([mean, deviation**2 + mean**2]) * (batch.size // 3)
    for file in files.values():
        file.close()
    (output / f"{share}.json").write_text(json.dumps([labels, ids]))
    return {"rows": {split: len(found) for split, found in ids.items()}, "sums": sums.tolist()}


def main() -> None:
    output, height, width, share, of, *paths = sys.argv[1:]
    cv2.setNumThreads(1)
    groups = [(path, number) for path in paths for number in range(pq.ParquetFile(path).num_row_groups)]
    print("ready", flush=True)
    sys.stdin.readline()
    begin_s, begin_cpu_s = time.perf_counter(), time.process_time()
    figures = prepare(Path(output), (int(height), int(width)), groups[int(share) :: int(of)], int(share))
    wall_s, cpu_s = time.perf_counter() - begin_s, time.process_time() - begin_cpu_s
    print(json.dumps({**figures, "wall_s": wall_s, "cpu_s": cpu_s}))


if __name__ == "__main__":
    main()
