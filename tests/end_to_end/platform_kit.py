"""The installed command, run as people run it, with a home of its own."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import psutil

from platformops.delivery.systems import rollouts
from platformops.on_ray.cluster import recorded, temp_dir_of
from platformops.on_ray.servers import MARK
from platformops.store.open import open_store

PROJECT = Path(__file__).resolve().parents[2]
PROGRAM = [sys.executable, "-m", "platformops.cli.main"]
DIGITS = PROJECT / "configs" / "digits.yaml"


class Platform:
    """The command line with a home of its own."""

    def __init__(self, root: Path, **environment: str) -> None:
        self.home = root / "home"
        (root / "user").mkdir(parents=True, exist_ok=True)
        names = ("PATH", "LANG", "LD_LIBRARY_PATH", "PLATFORMOPS_DATA", "SSL_CERT_FILE")
        self.environment = {name: os.environ[name] for name in names if name in os.environ} | {
            "HOME": str(root / "user"),
            "PLATFORMOPS_HOME": str(self.home),
            "OMP_NUM_THREADS": "2",
            "PYTHONPATH": str(PROJECT),
            **environment,
        }

    def start(self, *arguments: str) -> subprocess.Popen:
        return subprocess.Popen(
            [*PROGRAM, *map(str, arguments)],
            env=self.environment,
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, expect: int = 0) -> subprocess.CompletedProcess:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=540)
        done = subprocess.CompletedProcess(arguments, process.returncode, out, err)
        assert done.returncode == expect, f"{arguments}: exit {done.returncode}\n{out[-3000:]}\n{err[-6000:]}"
        return done

    def json(self, *arguments: str, expect: int = 0) -> dict:
        return json.loads(self.run(*arguments, "--json", expect=expect).stdout.splitlines()[-1])

    def events(self) -> list[dict]:
        """Every line of every run's log."""
        logs = sorted((self.home / "logs").glob("*.jsonl"))
        return [json.loads(line) for log in logs for line in log.read_text().splitlines() if line.startswith("{")]

    def finished_steps(self) -> list[str]:
        """Fingerprint of a step, once for each time that it was carried out to its end."""
        return [e["platformops.fingerprint"] for e in self.events() if e.get("event.action") == "step-done"]

    def rollouts(self, system: str) -> list[str]:
        """Names of the system's rollouts, newest first."""
        with self.store() as store:
            return [rollout.name for rollout in rollouts(store, system)]

    def cluster_processes(self) -> list[psutil.Process]:
        """Processes of the cluster that this home's `up` started."""
        return [p for p in psutil.process_iter() if _environment_of(p).get(MARK) == str(temp_dir_of(self.home))]

    def cluster_address(self) -> str:
        with self.store() as store:
            return recorded(store).address

    @contextlib.contextmanager
    def store(self):
        store = open_store(f"sqlite:///{self.home / 'store.db'}")
        try:
            yield store
        finally:
            store.close()


def _environment_of(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        return {}
