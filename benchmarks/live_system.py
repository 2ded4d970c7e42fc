"""A system that the command line brings up in a home of its own, and takes down: what live benchmarks stand on."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from platformops.home import Home, home_at
from platformops.on_ray.cluster import free_port
from platformops.store.open import open_store
from platformops.store.records import Store

PROJECT = Path(__file__).resolve().parents[1]
LONGEST_S = 540.0
"""Of one command."""


class LiveSystem:
    """One home, its spec, and the command line for it."""

    def __init__(self, root: Path, spec: str, name: str, *, home: Path | None) -> None:
        self.home: Home = home_at(root / "home")
        if home is not None:
            shutil.copytree(home, self.home.root)
        self.spec, self.name = root / f"{name}.yaml", name
        self.spec.write_text(spec, encoding="utf-8")
        (root / "user").mkdir()
        kept = ("PATH", "LANG", "LD_LIBRARY_PATH", "PLATFORMOPS_DATA")
        self.environment = {
            **{key: os.environ[key] for key in kept if key in os.environ},
            "HOME": str(root / "user"), "PLATFORMOPS_HOME": str(self.home.root), "PYTHONPATH": str(PROJECT),
            "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        self.address = ""

    def up(self) -> None:
        """The system answers at `address` on return. Raises SystemExit when it does not come up."""
        port = free_port()
        self.told("up", str(self.spec), "--port", str(port))
        self.address = f"http://127.0.0.1:{port}/{self.name}"

    def told(self, *arguments: str, allowed: tuple[int, ...] = (0,)) -> dict[str, object]:
        """What the command says with `--json`. Raises SystemExit when it ends otherwise than is allowed."""
        done = subprocess.run(
            [sys.executable, "-m", "platformops", *arguments, "--json"], cwd=PROJECT, env=self.environment, text=True,
            stdin=subprocess.DEVNULL, capture_output=True, timeout=LONGEST_S, check=False,
        )  # fmt: skip
        if done.returncode not in allowed:
            raise SystemExit(f"{arguments}: exit {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
        document: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
        return document

    def key(self) -> str:
        """That `up` made for clients."""
        from platformops.security.key_file import read_key_file

        return read_key_file(self.home.keys / f"{self.name}.key") or ""

    @contextlib.contextmanager
    def store(self) -> Iterator[Store]:
        store = open_store(self.home.store_url)
        try:
            yield store
        finally:
            store.close()


@contextlib.contextmanager
def live(spec: str, name: str, *, home: Path | None = None, logs: Path | None = None) -> Iterator[LiveSystem]:
    """The system of `spec`, live; all is stopped and removed afterwards, but for a copy of its logs in `logs`.

    With a `home`, one in which the same spec ran before, a copy of it is used: then no step is run again.
    """
    root = Path(tempfile.mkdtemp(prefix="pl", dir="/tmp"))
    system = LiveSystem(root, spec, name, home=home)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that what runs is stopped, too
    try:
        began = time.monotonic()
        system.up()
        print(f"live after {time.monotonic() - began:.0f} s", flush=True)
        yield system
    finally:
        subprocess.run(
            [sys.executable, "-m", "platformops", "down"], cwd=PROJECT, env=system.environment, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=LONGEST_S,
        )  # fmt: skip
        if logs is not None and system.home.logs.is_dir():
            shutil.copytree(system.home.logs, logs, dirs_exist_ok=True)
        shutil.rmtree(root, ignore_errors=True)
