"""Two loops without a platform: the tuned one that training is measured against, and the one that most people write.

    python benchmarks/training_loops.py bare|usual DATASET|PARQUET EPOCHS BATCH THREADS [ROWS]

Both fit the default network of the image app, once for each line on the standard input, and then print one JSON
object: images, seconds, accuracy.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

PADDING = 2


def network(classes: tuple[str, ...], size: tuple[int, int, int], mean: tuple[float, ...], std: tuple[float, ...]) -> (
    nn.Module
):  # fmt: skip
    from platformops.apps.contract import ModelParams
    from platformops.apps.image.networks import build

    return build(ModelParams("small_cnn", size, classes, mean, std))


def augmented(images: NDArray[np.uint8], dice: np.random.Generator) -> NDArray[np.uint8]:
    """Random crops of the padded images, half of them mirrored; the whole batch at once."""
    rows, height, width, _ = images.shape
    padded = np.pad(images, ((0, 0), (PADDING, PADDING), (PADDING, PADDING), (0, 0)), mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    tops, lefts = dice.integers(0, 2 * PADDING + 1, (2, rows))
    out = np.ascontiguousarray(windows[np.arange(rows), tops, lefts].transpose(0, 2, 3, 1))
    mirrored = dice.random(rows) < 0.5
    out[mirrored] = out[mirrored][:, :, ::-1]
    return out


def bare(folder: Path, epochs: int, batch: int, device: str = "cpu") -> tuple[int, float, float]:
    """Images seen from the second epoch on, seconds they took, validation accuracy: channels-last, bfloat16, pixels in
    memory, and nothing else."""
    from platformops.apps.prepared import open_prepared

    dataset = open_prepared(folder)
    train, held_out = dataset.splits["train"], dataset.splits["validation"]
    images, labels = train.images.slice(0, train.rows), torch.from_numpy(train.labels)
    model = network(dataset.classes, dataset.input_shape, dataset.mean, dataset.std)
    model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    steps, dice = train.rows // batch, np.random.default_rng(0)
    precision = torch.autocast(device, torch.bfloat16, enabled=bool(torch.cpu.get_capabilities().get("avx512_bf16")))
    accuracy, ends_s = 0.0, []
    for epoch in range(epochs):
        order = dice.permutation(train.rows)
        model.train()
        for step in range(steps):
            progress = (epoch * steps + step) / (epochs * steps)
            for group in optimizer.param_groups:
                group["lr"] = 0.1 * min(0.2 + 4 * progress, 1.25 * (1 - progress) + 0.02)
            rows = order[step * batch : (step + 1) * batch]
            with precision:
                logits = model(torch.from_numpy(augmented(images[rows], dice)))
            loss = functional.cross_entropy(logits.float(), labels[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        model.eval()
        with torch.no_grad(), precision:
            right = sum(
                int((model(torch.from_numpy(held_out.images.slice(at, at + 512))).argmax(1).numpy() == found).sum())
                for at in range(0, held_out.rows, 512)
                for found in [held_out.labels[at : at + 512]]
            )
        accuracy = right / held_out.rows
        ends_s.append(time.perf_counter())
    return (epochs - 1) * steps * batch, ends_s[-1] - ends_s[0], accuracy


def usual(path: Path, epochs: int, batch: int, rows: int) -> tuple[int, float, float]:
    """Pillow, torchvision v2 and a DataLoader; float32, contiguous; decoded again in each epoch."""
    import io

    import pyarrow.parquet as pq
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset
    from torchvision.transforms import v2

    table = pq.read_table(path, columns=["image", "label"]).slice(0, rows)
    contents, labels = table.column("image").to_pylist(), table.column("label").to_pylist()
    steps = [v2.ToImage(), v2.RandomCrop(32, PADDING), v2.RandomHorizontalFlip()]
    steps += [v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.25] * 3)]
    transform = v2.Compose(steps)

    class Images(Dataset[tuple[Tensor, int]]):
        def __len__(self) -> int:
            return len(contents)

        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            image: Any = transform(Image.open(io.BytesIO(contents[index])).convert("RGB"))
            return image, labels[index]

    whole = network(tuple("0123456789"), (32, 32, 3), (0.0,) * 3, (1.0,) * 3)
    model: nn.Module = whole.network  # type: ignore[assignment]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    seen, begin_s = 0, time.perf_counter()
    for _ in range(epochs):
        for images, wanted in DataLoader(Images(), batch_size=batch, shuffle=True):
            loss = functional.cross_entropy(model(images), wanted)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            seen += len(wanted)
    return seen, time.perf_counter() - begin_s, 0.0


def main() -> None:
    which, source, epochs, batch, threads, *rows = sys.argv[1:]
    torch.set_num_threads(int(threads))
    print("ready", flush=True)
    for _ in sys.stdin:
        torch.manual_seed(0)
        if which == "bare":
            images, wall_s, accuracy = bare(Path(source), int(epochs), int(batch))
        else:
            images, wall_s, accuracy = usual(Path(source), int(epochs), int(batch), int(rows[0]))
        print(json.dumps({"images": images, "wall_s": wall_s, "accuracy": accuracy}), flush=True)


if __name__ == "__main__":
    main()
