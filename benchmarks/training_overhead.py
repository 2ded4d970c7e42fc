"""Images a second of training through the platform, against a bare tuned loop with the same network and data.

    python benchmarks/training_overhead.py [--short]

Through the platform means what the `train` stage calls: a Ray Train worker, shards mapped into memory, augmentation,
validation, checkpoints made durable, reports. The loop (`training_loops.py bare`) has its pixels in memory, the same
threads, precision, memory format, allocator settings and validation, and nothing else. The start of Ray Train's
worker (`start_s`) and the first epoch, in which a process does what it does once, are no part of the rate. Both are
measured in turn; the ratio is the median over rounds.
The full form also fits CIFAR-10 in float32 and in bfloat16 and compares their accuracies.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent))
TARGETS = {"ratio_to_bare_loop": 0.95}
DATA = Path(os.environ.get("PLATFORMOPS_DATA") or FOLDER.parents[1] / "shared" / "data") / "apps" / "images"
BATCH = 512
USUAL_ROWS = 1024
SHORT_ROWS = 3000
MAX_LOSS_OF_ACCURACY = 0.01


@dataclass(frozen=True)
class Taken:
    images: int
    wall_s: float
    accuracy: float
    start_s: float = 0.0


def prepared(folder: Path, rows: int | None) -> Path:
    """CIFAR-10, the whole of it or its first rows, through the `prepare` stage."""
    import pyarrow.parquet as pq

    from platformops.on_ray.data import Request, prepare
    from platformops.spec.types import CheckSpec, SplitSpec

    sources = folder / "source"
    sources.mkdir()
    for path in sorted((DATA / "cifar10").glob("train-*.parquet"))[: None if rows is None else 1]:
        if rows is None:
            (sources / path.name).symlink_to(path)
        else:
            pq.write_table(pq.read_table(path).slice(0, rows), sources / path.name)
    operations = ({"resize": [32, 32]}, {"crop": {"random": 32, "padding": 2}}, {"flip": "horizontal"},
                  {"normalize": "auto"})  # fmt: skip
    split = SplitSpec(train=0.9, validation=0.05, test=0.05)
    output = folder / "prepared"
    output.mkdir()
    request = Request("image", FOLDER, str(sources), None, split, operations, CheckSpec(), {})
    prepare(request, output, lambda ratio, message, **figures: None)
    return output


def through_the_platform(dataset: Path, folder: Path, epochs: int, precision: str = "auto") -> Taken:
    from platformops.on_ray.training import train
    from platformops.spec.types import TrainSpec

    output, scratch = folder / "model", folder / "scratch"
    for path in (output, scratch):
        path.mkdir(parents=True)
    settings = TrainSpec.model_validate(
        {"model": "small_cnn", "epochs": epochs, "batch_size": BATCH, "lr": 0.1, "precision": precision}
    )
    begin_s = time.perf_counter()
    train(
        app="image",
        root=FOLDER,
        dataset_directory=dataset,
        settings=settings,
        scratch=scratch,
        output=output,
        name=f"bench-{time.time_ns()}",
        progress=lambda ratio, message, **figures: None,
    )
    whole_s = time.perf_counter() - begin_s
    history = json.loads((output / "history.json").read_text())
    wall_s = history[-1]["elapsed_s"] - history[0]["elapsed_s"]
    rows = _rows(dataset) // BATCH * BATCH
    shutil.rmtree(folder)
    return Taken((epochs - 1) * rows, wall_s, history[-1]["accuracy"], whole_s - history[-1]["elapsed_s"])


class Loop:
    """A process of `training_loops.py`, started once, that trains anew each time it is told to."""

    def __init__(self, which: str, source: Path, epochs: int, threads: int, *more: int) -> None:
        from platformops.on_ray.training import WORKER_ENVIRONMENT

        settings = WORKER_ENVIRONMENT if which == "bare" else {}
        environment = {**os.environ, **settings, "OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, str(FOLDER / "training_loops.py"), which, str(source), str(epochs), str(BATCH)]
        self._process = subprocess.Popen(
            [*command, str(threads), *map(str, more)],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __enter__(self) -> Loop:
        self._answer()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def run(self) -> Taken:
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return Taken(**json.loads(self._answer()))

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


def _rows(dataset: Path) -> int:
    description: dict[str, Any] = json.loads((dataset / "dataset.json").read_text())
    return int(description["splits"]["train"]["rows"])


def measure(dataset: Path, folder: Path, rounds: int, epochs: int) -> dict[str, float]:
    from platformops.apps.prepared import open_prepared
    from platformops.on_ray.training import layout_for
    from platformops.spec.types import TrainSpec

    threads = layout_for(open_prepared(dataset), TrainSpec(batch_size=BATCH, epochs=epochs)).threads
    ours, bare, usual = [], [], []
    source = sorted((DATA / "cifar10").glob("train-*.parquet"))[0]
    with Loop("bare", dataset, epochs, threads) as tuned, Loop("usual", source, 1, threads, USUAL_ROWS) as common:
        for number in range(rounds):
            bare.append(tuned.run())
            ours.append(through_the_platform(dataset, folder / str(number), epochs))
            bare.append(tuned.run())
            usual.append(common.run())

    def rate(run: Taken) -> float:
        return run.images / run.wall_s

    # Each run of ours lies between two of the loop: their mean is what the machine gave it.
    around = [(rate(bare[2 * i]) + rate(bare[2 * i + 1])) / 2 for i in range(rounds)]
    return {
        "ratio_to_bare_loop": round(statistics.median(rate(o) / b for o, b in zip(ours, around, strict=True)), 3),
        "multiple_of_usual_loop": round(
            statistics.median(rate(o) / rate(u) for o, u in zip(ours, usual, strict=True)), 2
        ),
        "ours_ips": round(statistics.median(map(rate, ours))),
        "bare_loop_ips": round(statistics.median(map(rate, bare))),
        "usual_loop_ips": round(statistics.median(map(rate, usual))),
        "start_s": round(statistics.median(run.start_s for run in ours), 2),
        "accuracy": round(statistics.median(run.accuracy for run in ours), 4),
        "bare_accuracy": round(statistics.median(run.accuracy for run in bare), 4),
        "threads": threads,
        "images_a_round": ours[0].images,
    }


def compare_precisions(dataset: Path, folder: Path, epochs: int) -> dict[str, float]:
    found = {
        precision: through_the_platform(dataset, folder / precision, epochs, precision)
        for precision in ("float32", "bfloat16")
    }
    return {
        "float32_accuracy": round(found["float32"].accuracy, 4),
        "bfloat16_accuracy": round(found["bfloat16"].accuracy, 4),
        "bfloat16_speed_up": round(found["float32"].wall_s / found["bfloat16"].wall_s, 2),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="one round, of few rows; no comparison of precisions")
    short = parser.parse_args().short
    if not DATA.is_dir():
        raise SystemExit(f"{DATA} is not there: set PLATFORMOPS_DATA")
    from benchmarks.serving import cluster

    root = Path(tempfile.mkdtemp(prefix="pt", dir="/tmp"))
    try:
        with cluster(root):
            dataset = prepared(root, SHORT_ROWS if short else None)
            figures = measure(dataset, root / "runs", 1 if short else 5, 3)
            if not short:
                figures |= compare_precisions(dataset, root / "precisions", 3)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    figures["load_1min"] = round(os.getloadavg()[0], 2)
    for name, value in figures.items():
        print(f"{name:<26}{value:>12,.6g}{f'   at least {TARGETS[name]}' if name in TARGETS else ''}")
    passed = figures["ratio_to_bare_loop"] >= TARGETS["ratio_to_bare_loop"]
    if not short:
        passed &= figures["bfloat16_accuracy"] >= figures["float32_accuracy"] - MAX_LOSS_OF_ACCURACY
    print(json.dumps({"name": "training_overhead", "figures": figures, "targets": TARGETS, "passed": passed}))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
