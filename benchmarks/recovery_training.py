"""One training for the recovery benchmark, as a driver of its own: `recovery_training.py ours|raw FOLDER`.

Both fit the same model on the same rows with the same steps and save after each epoch, of about two seconds. `raw` is
Ray Train as its documentation has it, with retries allowed and every other setting at its default.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from platformops.apps.contract import Operation, Preparation
from platformops.apps.load import load_app
from platformops.apps.prepared import SplitRows, open_prepared, write_dataset, write_shard
from platformops.clock import SystemClock
from platformops.frameworks.torch import fit
from platformops.spec.types import TrainSpec

ROWS, BATCH, EPOCHS = 1280, 64, 100_000
APP = """
import os, pathlib, time
import torch

BASE = "image"
HANG = pathlib.Path(__file__).with_name("hang")

class Slow(torch.nn.Module):
    '''0.08 s a step whatever the machine; hangs for good, once, when it is told to.'''

    def __init__(self, classes):
        super().__init__()
        self.layer = torch.nn.Linear(192, classes)

    def forward(self, batch):
        time.sleep(0.08)
        if HANG.exists():
            HANG.unlink()
            time.sleep(3600)
        return self.layer(batch.float().flatten(1) / 255)

def build_model(params):
    return Slow(len(params.classes))
"""
SETTINGS = TrainSpec(model="own", epochs=EPOCHS, batch_size=BATCH, lr=0.01, workers=1, max_failures=1000)


def prepare(folder: Path) -> None:
    """The app and the rows in `folder`."""
    (folder / "app.py").write_text(APP, encoding="utf-8")
    (folder / "rows").mkdir()
    dice = np.random.default_rng(0)
    splits = {}
    for name, rows in {"train": ROWS, "validation": BATCH, "test": BATCH}.items():
        images = dice.integers(0, 255, (rows, 8, 8, 3), dtype=np.uint8)
        shard = write_shard(folder / "rows", name, 0, images)
        splits[name] = SplitRows([shard], dice.integers(0, 3, rows).tolist(), [f"{name}{n}" for n in range(rows)])
    operations = (Operation("channels", 3), Operation("resize", [8, 8]))
    write_dataset(
        folder / "rows",
        classes=["a", "b", "c"],
        preparation=Preparation(operations, 2, (8, 8, 3), None, None),
        mean=[0.3] * 3,
        std=[0.2] * 3,
        splits=splits,
        quarantine=[],
        digest="d",
    )


def run_ours(folder: Path) -> None:
    from platformops.on_ray.session import attach
    from platformops.on_ray.training import train

    attach()
    output, scratch = folder / "output", folder / "scratch"
    output.mkdir(exist_ok=True)
    train(
        app="app.py",
        root=folder,
        dataset_directory=folder / "rows",
        settings=SETTINGS,
        scratch=scratch,
        output=output,
        name="recovery",
        progress=lambda ratio, message, **figures: print(message, flush=True),
    )


def run_raw(folder: Path) -> None:
    import ray.train
    from ray.train.torch import TorchTrainer

    ray.init(address=os.environ["RAY_ADDRESS"], log_to_driver=False, logging_level="ERROR")
    trainer = TorchTrainer(
        raw_worker,
        train_loop_config={"folder": str(folder)},
        scaling_config=ray.train.ScalingConfig(num_workers=1, resources_per_worker={"CPU": 0.5}),
        run_config=ray.train.RunConfig(
            name="raw", storage_path=str(folder), failure_config=ray.train.FailureConfig(max_failures=1000)
        ),
    )
    trainer.fit()


def raw_worker(config: dict[str, Any]) -> None:
    import tempfile

    import ray.train

    from platformops.on_ray.training_worker import model_params

    folder = Path(config["folder"])
    dataset = open_prepared(folder / "rows")
    found = ray.train.get_checkpoint()
    resume = Path(found.to_directory()) if found is not None else None
    account = {"pid": os.getpid(), "steps": 0, "at": 0.0}
    newest = Path(tempfile.mkdtemp())

    def mark(section: str) -> None:
        if section == "step":
            account.update(steps=account["steps"] + 1, at=time.time())
            aside = folder / f"raw.{os.getpid()}"
            aside.write_text(json.dumps(account), encoding="utf-8")
            aside.replace(folder / "raw.json")

    fit(
        load_app("app.py", folder),
        dataset,
        model_params(dataset, SETTINGS),
        SETTINGS,
        clock=SystemClock(),
        resume=resume,
        save_checkpoint=lambda checkpoint: checkpoint.write(newest),
        on_epoch=lambda report: ray.train.report(
            {"epoch": report.epoch}, checkpoint=ray.train.Checkpoint.from_directory(newest)
        ),
        on_section=mark,
    )


if __name__ == "__main__":
    {"ours": run_ours, "raw": run_raw}[sys.argv[1]](Path(sys.argv[2]))
