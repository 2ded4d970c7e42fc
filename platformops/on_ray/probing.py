"""Starts the probe of one node: a Ray task that is gone as soon as the probe runs, so that no worker stays for it."""

from __future__ import annotations

import json
import os
import site
import subprocess
import sys
from dataclasses import asdict

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from platformops.on_ray.probe import Assignment

START_TIMEOUT_S = 60.0


def begin_probe(
    node: str, incarnation: int, key: bytes, controller: tuple[str, int], raylet: tuple[str, int], root: str
) -> ray.ObjectRef[None]:
    """The task that starts it, under way; `root` is the folder that holds this package."""
    given = Assignment(node, incarnation, key.hex(), controller, 0, raylet, "")
    task = ray.remote(max_calls=1)(start_probe).options(
        num_cpus=0,
        max_retries=0,
        name="platformops-probe",
        scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
    )
    started: ray.ObjectRef[None] = task.remote(asdict(given), root)
    return started


def start_probe(given: dict[str, object], root: str) -> None:
    """Runs on the node itself. Raises CalledProcessError or TimeoutExpired."""
    folder = ray._private.worker._global_node.get_session_dir_path()
    packages = [*site.getsitepackages(), site.getusersitepackages()]
    told = {**given, "raylet_pid": int(os.environ["RAY_RAYLET_PID"]), "folder": folder, "site": packages}
    subprocess.run(
        [sys.executable, "-S", "-P", "-m", "platformops.on_ray.probe"],
        input=json.dumps(told),
        text=True,
        env={**os.environ, "PYTHONPATH": root},
        timeout=START_TIMEOUT_S,
        check=True,
    )
