"""Training on Ray Train: data-parallel workers that checkpoint by our own manifest and resume from it."""

from __future__ import annotations

import getpass
import json
import math
import os
import shutil
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray.experimental import internal_kv

from platformops.apps.prepared import PreparedDataset, open_prepared
from platformops.clock import SystemClock
from platformops.errors import PlatformError, StageFailed
from platformops.on_ray.gang_line import RayLine
from platformops.on_ray.gang_places import gang, node_views, wait_for_room
from platformops.on_ray.gangs import GangTeller
from platformops.on_ray.keeping_off import KeepOff
from platformops.on_ray.layout import Layout, training_layout
from platformops.on_ray.session import capacities
from platformops.on_ray.spares import HOOK
from platformops.on_ray.step_pace import StepPace
from platformops.on_ray.training_worker import TrainingOrder, model_params, run_worker
from platformops.on_ray.watching import StuckWatch
from platformops.pipeline.launcher import MEMORY_REMEDY
from platformops.pipeline.process import oom_kills
from platformops.pipeline.records import Tell
from platformops.spec.types import TrainSpec
from platformops.store.records import JsonObject

POLL_S = 0.25
"""Of the Train controller: `report()` returns only after the poll that took the report before it."""
ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": str(POLL_S),
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "30",
    # A worker of another machine that is held still; those of this one are seen by their heartbeats.
    "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": "10",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "1",
}
WORKER_ENVIRONMENT = {
    **HOOK,
    "TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S": "3",
    # Large batches otherwise go back to the kernel after each step and fault in again: 1.7 times the CPU time.
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**32),
    "MALLOC_TOP_PAD_": str(2**26),
    # Ray Train calls a rank in a thread of its own. The memory of such a thread comes in pieces of 64 MB, and whatever
    # does not fit into one goes back to the kernel after all, unless all threads share the first thread's.
    "MALLOC_ARENA_MAX": "1",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}


def train(
    *,
    app: str,
    root: Path,
    dataset_directory: Path,
    settings: TrainSpec,
    scratch: Path,
    output: Path,
    name: str,
    progress: Tell,
) -> JsonObject:
    """Fits the model on the cluster and leaves its artifact in `output`; continues from `scratch` where it can."""
    dataset = open_prepared(dataset_directory)
    model_params(dataset, settings)
    layout = layout_for(dataset, settings)
    clock = SystemClock()
    job = gang(name, _resources(layout), layout.num_workers, team=_team(), now=clock.now())
    wait_for_room(job, node_views, RayLine(clock), clock, progress)
    progress(None, f"starting {layout.num_workers} worker(s), {layout.threads} thread(s) each: {layout.reason}")
    order = TrainingOrder(
        app=app,
        root=str(root),
        dataset=str(dataset_directory),
        settings=settings.model_dump(mode="json"),
        checkpoints=str(scratch / "checkpoints"),
        output=str(output),
        threads=layout.threads,
        use_gpu=layout.use_gpu,
        news_key=f"train/{name}",
        beats=str(scratch / "beats"),
    )
    os.environ.update(ENVIRONMENT)
    try:
        watch = StuckWatch(Path(order.beats), SystemClock(), partial(_tell_ended, progress))
        teller = GangTeller(job, Path(order.beats), clock)
        with _News(order.news_key, teller.pace, progress), watch, teller:
            _fit_on_cluster(order, layout, settings.max_failures, scratch / "ray", f"{name}-{time.time_ns()}")
    except StageFailed:
        # A Train controller that was killed leaves its placement group held for as long as this job lives: the next
        # attempt would wait for those very CPUs.
        ray.shutdown()
        raise
    return _summary(output)


def _team() -> str:
    """With whom the cluster is shared: `PLATFORMOPS_TEAM`, or the person who runs this."""
    return os.environ.get("PLATFORMOPS_TEAM") or getpass.getuser()


def _tell_ended(progress: Tell, said: str, stack: str) -> None:
    progress(None, said)
    if stack:
        print(stack, flush=True)  # what a stage prints is in the log of its run


def layout_for(dataset: PreparedDataset, settings: TrainSpec) -> Layout:
    """Where the workers of this training go on the cluster as it is now."""
    rows = dataset.splits["train"].rows * settings.epochs
    return training_layout(
        capacities(),
        workers=settings.workers,
        devices=settings.devices,
        num_rows=rows,
        values_a_step=settings.batch_size * math.prod(dataset.input_shape),
    )


def _fit_on_cluster(order: TrainingOrder, layout: Layout, max_failures: int, storage: Path, run_name: str) -> None:
    from ray.train.torch import TorchConfig, TorchTrainer

    resources = _resources(layout)
    trainer = TorchTrainer(
        run_worker,
        train_loop_config=asdict(order),
        torch_config=TorchConfig(backend="nccl" if layout.use_gpu else "gloo", timeout_s=120),
        scaling_config=ray.train.ScalingConfig(
            num_workers=layout.num_workers, use_gpu=layout.use_gpu, resources_per_worker=resources
        ),
        run_config=ray.train.RunConfig(
            name=run_name,
            storage_path=str(storage),
            callbacks=[KeepOff(resources)],
            # A group that cannot start wants nodes that are gone: the next attempt lays out what is left.
            failure_config=ray.train.FailureConfig(max_failures=max_failures, controller_failure_limit=1),
            worker_runtime_env={"env_vars": {**WORKER_ENVIRONMENT, "OMP_NUM_THREADS": str(layout.threads)}},
        ),
    )
    killed_for_memory = oom_kills()
    try:
        trainer.fit()
    except ray.train.WorkerGroupError as error:
        if oom_kills() > killed_for_memory:
            raise StageFailed(
                f"training workers failed while memory ran out: {_short(error)}", remedy=MEMORY_REMEDY
            ) from error
        raise _cause(error) from error
    except (ray.train.TrainingFailedError, ray.exceptions.RayError) as error:
        raise StageFailed(f"training ended: {_short(error)}") from error
    finally:
        shutil.rmtree(storage / run_name, ignore_errors=True)


def _resources(layout: Layout) -> dict[str, float]:
    """Of each worker."""
    return {"CPU": layout.cpus_per_worker} | ({"GPU": 1.0} if layout.use_gpu else {})


def _cause(error: ray.train.WorkerGroupError) -> PlatformError:
    """A worker's own error for people, where it had one; else what happened to it."""
    for failure in error.worker_failures.values():
        cause: BaseException | None = failure
        while cause is not None:
            if isinstance(cause, PlatformError):
                return cause
            cause = getattr(cause, "cause", None) or cause.__cause__
    return StageFailed(f"training workers failed: {_short(error)}")


def _short(error: BaseException) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__


def _summary(output: Path) -> JsonObject:
    try:
        loaded: JsonObject = json.loads((output / "training.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise StageFailed(
            "the training worker's model is not here: the nodes do not share the folder of the home",
            remedy="put PLATFORMOPS_HOME on a folder that every node sees",
        ) from error
    return loaded


class _News:
    """Passes on, while training runs, what rank 0 last said, and how long the steps of each rank take."""

    def __init__(self, key: str, pace: StepPace, progress: Tell) -> None:
        self._key, self._pace, self._progress, self._ended = key, pace, progress, threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True, name="training-news")

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        internal_kv._internal_kv_del(self._key)

    def _follow(self) -> None:
        last = b""
        while not self._ended.wait(0.5):
            news = internal_kv._internal_kv_get(self._key) or b""
            if news != last:
                last = news
                self._tell(json.loads(news))

    def _tell(self, news: Mapping[str, Any]) -> None:
        accuracy = "" if news["accuracy"] is None else f", validation accuracy {news['accuracy']:.3f}"
        message = f"epoch {news['epoch']}/{news['epochs']}, loss {news['loss']:.3f}{accuracy}"
        damaged = f" (damaged checkpoint skipped: {'; '.join(news['damaged'])})" if news["damaged"] else ""
        figures = {"epoch": news["epoch"], "loss": news["loss"], "images_per_second": news["images_per_s"]}
        if news["accuracy"] is not None:
            figures["validation_accuracy"] = news["accuracy"]
        self._progress(
            news["progress_ratio"],
            f"{message}, {news['images_per_s']:.0f} images/s{damaged}",
            **figures,
            **{f"step_seconds.rank{rank}": step_s for rank, step_s in dict(self._pace.step_s).items()},
        )
