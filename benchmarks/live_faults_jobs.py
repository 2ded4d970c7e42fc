"""What runs on the nodes that are broken: a job that checkpoints each second, and an application of two replicas."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.live_faults_cluster import LOOK_S, Site, until
from platformops.clock import SystemClock
from platformops.on_ray.pulse import Pulse
from platformops.on_ray.stuck import Section
from platformops.on_ray.watching import StuckWatch

STEP_S, STEPS_A_CHECKPOINT = 0.1, 10


class Job:
    """An actor that makes a step each tenth of a second, and goes on from its last checkpoint when it is restarted.

    With the platform it tells of each step, as a training worker does; under Ray alone there is nobody to tell.
    """

    def __init__(self, folder: str, *, tells: bool) -> None:
        self._folder = Path(folder)
        saved = self._folder / "checkpoint"
        self._step = int(saved.read_text()) if saved.exists() else 0
        threading.Thread(target=self._tell if tells else self._run, daemon=True).start()

    def pid(self) -> int:
        return os.getpid()

    def _tell(self) -> None:
        with Pulse(self._folder / "beats", 0, SystemClock()) as pulse:
            self._run(pulse)

    def _run(self, pulse: Pulse | None = None) -> None:
        while True:
            if pulse is not None:
                pulse.enter(Section.STEP)
            if (self._folder / f"hang-{os.getpid()}").exists():
                threading.Event().wait()
            time.sleep(STEP_S)
            self._step += 1
            self._write(f"progress-{os.getpid()}", str(self._step))
            if self._step % STEPS_A_CHECKPOINT == 0:
                self._write("checkpoint", str(self._step))

    def _write(self, name: str, text: str) -> None:
        aside = self._folder / f"aside-{name}-{os.getpid()}"
        aside.write_text(text)
        aside.replace(self._folder / name)


class Running:
    """A job on one node, followed through its files."""

    def __init__(self, made: Site, node: str, number: int, *, is_raw: bool) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self.folder = made.home.root / f"job-{number}"
        self.folder.mkdir(parents=True)
        self._actor = (
            ray.remote(Job)
            .options(
                num_cpus=1,
                max_restarts=-1,
                max_task_retries=-1,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=True),
            )
            .remote(str(self.folder), tells=not is_raw)
        )
        self.pid = int(ray.get(self._actor.pid.remote(), timeout=120))
        until(lambda: self.step() > 2 * STEPS_A_CHECKPOINT, "the job runs")
        self.watch = StuckWatch(self.folder / "beats", SystemClock(), lambda what, _: print(f"  {what}", flush=True))

    def step(self, pid: int = 0) -> int:
        """The last step of a process; of the first one without a number."""
        with contextlib.suppress(OSError, ValueError):
            return int((self.folder / f"progress-{pid or self.pid}").read_text())
        return 0

    def hang(self) -> None:
        (self.folder / f"hang-{self.pid}").touch()

    def lost_s(self, began: float, before: int, timeout_s: float) -> float:
        """Seconds since `began` in which nothing was done that lasts, until another process is further than the first
        one was when it appeared; at most the timeout."""
        step, peak = self.step(), None
        while time.monotonic() - began < timeout_s:
            heir = self._heir()
            if heir and peak is None:
                peak = self.step()
            step = self.step(heir) if heir else self.step()
            if peak is not None and step > peak:
                break
            time.sleep(LOOK_S)
        return max(0.0, time.monotonic() - began - STEP_S * (step - before))

    def end(self) -> None:
        import ray

        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)
        ray.kill(self._actor, no_restart=True)

    def _heir(self) -> int:
        """The process that went on; 0 while there is none."""
        written = (int(path.name.removeprefix("progress-")) for path in self.folder.glob("progress-*"))
        return max((pid for pid in written if pid != self.pid), key=self.step, default=0)


class Answer:
    """The served application."""

    def __call__(self) -> tuple[str, int]:
        import ray

        return str(ray.get_runtime_context().get_node_id()), os.getpid()


class Served:
    """Two replicas on two nodes, asked by two clients from `asked` on until it is closed."""

    def __init__(self) -> None:
        from ray import serve

        serve.start(proxy_location="Disabled")
        deployment = serve.deployment(
            num_replicas=2,
            max_replicas_per_node=1,
            ray_actor_options={"num_cpus": 1},
            health_check_period_s=1.0,
        )(Answer)
        self._handle: Any = serve.run(deployment.bind(), name="served", route_prefix=None)
        self.replicas = self.wait_for_both(set())
        self._ended = threading.Event()
        self.asked = self.failed = 0
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(2)]
        for thread in self._threads:
            thread.start()

    def wait_for_both(self, gone: set[int]) -> dict[int, str]:
        """Process -> node of two replicas, neither of them one that is `gone`."""
        found: dict[int, str] = {}
        deadline = time.monotonic() + 90.0
        while len(found) < 2:
            if time.monotonic() > deadline:
                raise SystemExit("two replicas do not answer within 90 s")
            with contextlib.suppress(Exception):  # what a dying replica was asked is counted where it matters
                node, pid = self._handle.remote().result(timeout_s=5)
                found |= {} if pid in gone else {int(pid): str(node)}
        return found

    def counted(self) -> tuple[int, int]:
        """(asked, failed) so far."""
        return self.asked, self.failed

    def close(self) -> None:
        from ray import serve

        self._ended.set()
        for thread in self._threads:
            thread.join(timeout=30)
        serve.delete("served")

    def _ask(self) -> None:
        while not self._ended.wait(0.02):
            self.asked += 1
            try:
                self._handle.remote().result(timeout_s=20)
            except Exception as error:
                self.failed += 1
                print(f"  failed request: {type(error).__name__}: {str(error)[:120]}", flush=True)
