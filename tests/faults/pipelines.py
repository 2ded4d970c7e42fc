"""A small pipeline of real worker processes in a home of its own, for faults to meet."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path

from platformops.clock import SystemClock
from platformops.home import home_at
from platformops.pipeline.identity import FileIdentity
from platformops.pipeline.launcher import WorkerLauncher
from platformops.pipeline.plan import make_plan
from platformops.pipeline.process import this_owner
from platformops.pipeline.records import Stage
from platformops.pipeline.runner import run_plan
from platformops.store.artifacts import Artifacts
from platformops.store.open import open_store

PROJECT = Path(__file__).resolve().parents[2]
STAGES = """
import os
from pathlib import Path

def note(context, name):
    with open(context.root / "began", "a") as file:
        file.write(name + "\\n")

def write(context, name="write", size=2000):
    note(context, name)
    (context.output / "part.bin").write_bytes(os.urandom(size))
    (context.output / "deep").mkdir()
    (context.output / "deep" / "text.txt").write_text(name)
    return {"size": size}

def read(context, name="read"):
    note(context, name)
    for parent in context.inputs.values():
        (context.output / "out.bin").write_bytes((parent / "part.bin").read_bytes())
"""
SPEC = """system: demo
stages:
  - {name: write, uses: "stages:write", retries: 3, with: {size: 2000}}
  - {name: read, uses: "stages:read", needs: [write]}
"""


class Pipeline:
    """Two steps, `write` and `read`, whose state is below `home` and whose effects are counted beside their code."""

    def __init__(self, root: Path, home: Path | None = None) -> None:
        root.mkdir(exist_ok=True)
        self.root, self.home = root, home_at(home or root / "home")
        self.home.root.mkdir(parents=True, exist_ok=True)
        (root / "stages.py").write_text(STAGES)
        (root / "demo.yaml").write_text(SPEC)

    def run(self, *, size: int = 2000, retries: int = 3, needs=("write",), on_progress=None):
        """Within this process, workers aside."""
        clock = SystemClock()
        with self.store() as store:
            identity = FileIdentity(root=self.root, data_root=None, store=store, clock=clock)
            stages = [
                Stage("write", "stages:write", (), {"size": size}, retries=retries),
                Stage("read", "stages:read", needs),
            ]
            launcher = WorkerLauncher(environment=dict(os.environ), clock=clock)
            try:
                return run_plan(
                    make_plan("demo", stages, identity=identity),
                    store=store,
                    artifacts=self.artifacts(),
                    home=self.home,
                    clock=clock,
                    launcher=launcher,
                    owner=this_owner(),
                    root=self.root,
                    identity=identity,
                    on_progress=on_progress,
                    verify=("write", "read"),
                )
            finally:
                launcher.close()

    def command(self, *verb: str) -> list[str]:
        return [sys.executable, "-m", "platformops.cli.main", *verb]

    def start(self, command: Sequence[str]) -> subprocess.Popen[str]:
        environment = {**os.environ, "PLATFORMOPS_HOME": str(self.home.root), "PYTHONPATH": str(PROJECT)}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=self.root, env=environment, **pipes)

    def began(self) -> list[str]:
        path = self.root / "began"
        return path.read_text().split() if path.exists() else []

    def artifacts(self) -> Artifacts:
        return Artifacts(self.home.artifacts_url, cache=self.home.cache)

    @contextmanager
    def store(self):
        opened = open_store(self.home.store_url)
        try:
            yield opened
        finally:
            opened.close()

    def left_aside(self) -> list[str]:
        """What unfinished or damaged artifacts are there."""
        folder = self.home.root / "artifacts"
        return [
            str(path.relative_to(folder)) for name in (".staging", ".quarantine") for path in (folder / name).glob("*")
        ]


def last_json(text: str) -> dict:
    return json.loads(text.splitlines()[-1])
