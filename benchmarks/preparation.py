"""Images a second of preparation, as the `prepare` stage does it, against the best plain loop times the cores.

    python benchmarks/preparation.py [--short]

The loop (`preparation_loop.py`) calls the libraries directly and does the same work: bounds, decode, digest, split,
resize, statistics, shards; that both made the same of the same rows is checked. As many copies of it as there are
cores run at once, which is what one of them times the cores comes to on a machine that does other things too; the
plain product stands beside. The start of Ray Data's executor is measured on a source of one row group and left out
of the rate; `*_with_start` counts it. All variants are measured in turn, several rounds; figures are medians.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent))
TARGETS = {"ratio_to_best_loop": 0.8}
DATA = Path(os.environ.get("PLATFORMOPS_DATA") or FOLDER.parents[1] / "shared" / "data") / "apps" / "images"
CORES = len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Source:
    """Parquet files of one kind of image, each several times so that a run is long enough to be measured."""

    name: str
    size: tuple[int, int]
    pattern: str
    copies: int

    def files(self, folder: Path) -> list[str]:
        """Links below `folder`, in order."""
        there = folder / self.name
        there.mkdir(parents=True, exist_ok=True)
        for copy in range(self.copies):
            for path in sorted(DATA.glob(self.pattern)):
                link = there / f"{copy:02d}-{path.name}"
                if not link.exists():
                    link.symlink_to(path)
        return sorted(str(path) for path in there.iterdir())


@dataclass(frozen=True)
class Taken:
    """One measured run."""

    rows: int
    wall_s: float
    cpu_s: float
    counts: dict[str, int]


def run_loops(source: Source, files: Sequence[str], output: Path, processes: int) -> Taken:
    """`processes` copies of the loop at once, each with its share of the row groups."""
    command = [sys.executable, str(FOLDER / "preparation_loop.py"), str(output), *map(str, source.size)]
    started = [
        subprocess.Popen(
            [*command, str(share), str(processes), *files], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for share in range(processes)
    ]
    for process in started:
        assert process.stdout is not None
        process.stdout.readline()
    begin_s = time.perf_counter()
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    figures = [json.loads(process.communicate()[0]) for process in started]
    wall_s = time.perf_counter() - begin_s
    counts = {split: sum(f["rows"][split] for f in figures) for split in ("train", "validation", "test")}
    return Taken(sum(counts.values()), wall_s, sum(f["cpu_s"] for f in figures), counts)


def run_ours(source: Source, files: Sequence[str], output: Path) -> Taken:
    """What the `prepare` stage calls, on the running cluster."""
    from platformops.on_ray.data import prepare

    counts, wall_s, cpu_s = _timed(lambda: prepare(_request(source, files), output, lambda ratio, message: None))
    splits = {split: counts[split] for split in ("train", "validation", "test")}
    return Taken(sum(splits.values()), wall_s, cpu_s, splits)


def run_tasks(source: Source, files: Sequence[str], output: Path) -> Taken:
    """The same groups by plain Ray tasks: what is left of the difference to ours is Ray Data."""
    import ray

    from platformops.on_ray import data
    from platformops.on_ray.read import unpack

    reader = _reader(source, files, output)

    @ray.remote(num_cpus=1)  # type: ignore[untyped-decorator]
    def read(reader: Any, number: int) -> dict[str, Any]:  # noqa: ANN401
        return next(iter(reader({"group": [number]})))

    def all_groups() -> dict[str, int]:
        splits = {split: data._Split() for split in ("train", "validation", "test")}
        shared = ray.put(reader)
        for record in ray.get([read.remote(shared, number) for number in range(len(reader.groups))]):
            for written in unpack(record["meta"][0], record["payload"][0]).written:
                splits[written.split].add(written)
        return {name: len(split.ids) for name, split in splits.items()}

    counts, wall_s, cpu_s = _timed(all_groups)
    return Taken(sum(counts.values()), wall_s, cpu_s, counts)


def run_naive(source: Source, files: Sequence[str]) -> Taken:
    """Ray Data as its examples have it: a row at a time through Pillow into float32 batches."""
    import ray

    height, width = source.size

    def decoded(row: dict[str, Any]) -> dict[str, Any]:
        import io

        import numpy as np
        from PIL import Image

        image = Image.open(io.BytesIO(row["image"])).convert("RGB").resize((width, height))
        return {"image": np.asarray(image, dtype=np.float32) / 255, "label": row["label"]}

    def all_rows() -> dict[str, int]:
        read = ray.data.read_parquet(list(files), columns=["image", "label"]).map(decoded)
        return {"all": sum(len(batch["label"]) for batch in read.iter_batches(batch_size=256))}

    counts, wall_s, cpu_s = _timed(all_rows)
    return Taken(counts["all"], wall_s, cpu_s, counts)


def _timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """What `work` returned, its wall seconds, and the CPU seconds of this process and all of Ray's below it."""
    begin_cpu_s, begin_s = _cpu_s(), time.perf_counter()
    result = work()
    return result, time.perf_counter() - begin_s, _cpu_s() - begin_cpu_s


def _cpu_s() -> float:
    import psutil

    me, total_s = psutil.Process(), 0.0
    for process in [me, *me.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total_s += times.user + times.system
    return total_s


def _request(source: Source, files: Sequence[str]) -> Any:  # noqa: ANN401
    from platformops.on_ray.data import Request
    from platformops.spec.types import CheckSpec, SplitSpec

    folder = str(Path(files[0]).parent)
    where = folder if len(files) > 1 else files[0]
    return Request(
        "image", FOLDER, where, None, SplitSpec(), ({"resize": list(source.size)},), CheckSpec(), {}
    )  # fmt: skip


def _reader(source: Source, files: Sequence[str], output: Path) -> Any:  # noqa: ANN401
    from platformops.apps.load import load_app
    from platformops.on_ray import data
    from platformops.on_ray.grouping import grouped

    request = _request(source, files)
    app = load_app(request.app, request.root)
    parts = app.parts(request.source, request.options)
    samples = data._samples(app, parts, request.check.max_pixels)
    preparation = app.settle(app.operations(request.operations), samples)
    groups = grouped(parts, sum(sample.nbytes for sample in samples) // len(samples))
    return data._reader(request, preparation, output, groups, 0, None, set())


def measure(source: Source, folder: Path, rounds: int) -> dict[str, float]:
    """Figures of one kind of image."""
    files = source.files(folder / "sources")
    naive_files = [str(path) for path in sorted(DATA.glob(source.pattern))[:1]]
    fresh = _folders(folder / source.name)
    first = run_ours(source, files[:1], next(fresh))
    runs: dict[str, list[Taken]] = {name: [] for name in ("loop", "loops", "tasks", "start", "ours", "naive")}
    for _ in range(rounds):
        runs["loop"].append(run_loops(source, files[: len(files) // 2], next(fresh), 1))
        runs["start"].append(run_ours(source, files[:1], next(fresh)))
        runs["loops"].append(run_loops(source, files, next(fresh), CORES))
        runs["ours"].append(run_ours(source, files, next(fresh)))
        runs["tasks"].append(run_tasks(source, files, next(fresh)))
        runs["naive"].append(run_naive(source, naive_files))
    if any(run.counts != runs["loops"][0].counts for name in ("ours", "tasks") for run in runs[name]):
        raise SystemExit(f"loop and platform made different splits of the same rows: {runs}")
    return figures(runs, first)


def _folders(below: Path) -> Any:  # noqa: ANN401
    number = 0
    while True:
        shutil.rmtree(below / str(number - 1), ignore_errors=True)
        (below / str(number)).mkdir(parents=True)
        yield below / str(number)
        number += 1


def figures(runs: dict[str, list[Taken]], first: Taken) -> dict[str, float]:
    """Medians over rounds; ratios are taken within a round."""
    rounds = range(len(runs["ours"]))
    # The tiny source is itself prepared, at the rate of the loop: that part is no start-up.
    start_s = statistics.median(
        runs["start"][i].wall_s - runs["start"][i].rows / runs["loop"][i].rows * runs["loop"][i].wall_s for i in rounds
    )

    def rate(run: Taken, less_s: float = 0.0) -> float:
        return run.rows / (run.wall_s - less_s)

    def median(name: str, less_s: float = 0.0) -> float:
        return statistics.median(rate(run, less_s) for run in runs[name])

    def ratio(other: Callable[[int], float], less_s: float = start_s) -> float:
        return round(statistics.median(rate(runs["ours"][i], less_s) / other(i) for i in rounds), 3)

    def per_cpu_s(name: str) -> float:
        return statistics.median(run.rows / run.cpu_s for run in runs[name])

    return {
        "ratio_to_loops_at_once": ratio(lambda i: rate(runs["loops"][i])),
        "ratio_to_loop_times_cores": ratio(lambda i: CORES * rate(runs["loop"][i])),
        "ratio_with_start": ratio(lambda i: rate(runs["loops"][i]), 0.0),
        "ratio_of_cpu": round(per_cpu_s("ours") / per_cpu_s("loops"), 3),
        "ray_data_share_of_tasks": round(1 - median("ours", start_s) / median("tasks"), 3),
        "loop_ips": round(median("loop")),
        "loops_at_once_ips": round(median("loops")),
        "ray_tasks_ips": round(median("tasks")),
        "ray_data_naive_ips": round(median("naive")),
        "ours_ips": round(median("ours", start_s)),
        "ours_with_start_ips": round(median("ours")),
        "start_s": round(start_s, 2),
        "first_start_s": round(first.wall_s, 2),
        "rows": runs["ours"][0].rows,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="under two minutes")
    short = parser.parse_args().short
    if not DATA.is_dir():
        raise SystemExit(f"{DATA} is not there: set PLATFORMOPS_DATA")
    sources = [
        Source("cifar10", (32, 32), "cifar10/train-*.parquet", 2 if short else 8),
        Source("photos", (192, 144), "photos/train-*.parquet", 2 if short else 8),
    ]
    from benchmarks.serving import cluster

    root = Path(tempfile.mkdtemp(prefix="pp", dir="/tmp"))
    try:
        with cluster(root):
            measured = {source.name: measure(source, root, 3 if short else 5) for source in sources}
    finally:
        shutil.rmtree(root, ignore_errors=True)
    print(f"{CORES} cores, load {os.getloadavg()[0]:.1f}; ips: images a second")
    print(f"{'figure':<28}" + "".join(f"{name:>12}" for name in measured))
    for figure in measured["cifar10"]:
        print(f"{figure:<28}" + "".join(f"{found[figure]:>12,.6g}" for found in measured.values()))
    lowest = min(found["ratio_to_loops_at_once"] for found in measured.values())
    result = {"ratio_to_best_loop": lowest, "load_1min": os.getloadavg()[0], **measured}
    passed = lowest >= TARGETS["ratio_to_best_loop"]
    print(json.dumps({"name": "preparation", "figures": result, "targets": TARGETS, "passed": passed}))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
