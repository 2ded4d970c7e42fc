"""Drift loops on a real cluster: their crank's thread, and its work as processes of their own."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial

from platformops.clock import Clock, SystemClock
from platformops.delivery.retraining import Order, Recipe
from platformops.gateway.input_profiles import profiles
from platformops.gateway.inputs import read_inputs
from platformops.home import Home
from platformops.on_ray.turning import CrankThread
from platformops.pipeline.modules import PLATFORM_ROOT
from platformops.retraining import Profile, RetrainingController
from platformops.store.open import open_store

TICK_S = 1.0
REPEAT_S = 10.0
"""Between two processes for one order, and before a crank that failed is made anew."""
ENTRY = "platformops.cli.retraining"


class ProcessPorts:
    """Implements `RetrainingPorts`: an order is a process that outlives this one and is found again by its lock."""

    def __init__(self, home: Home, clock: Clock) -> None:
        self._home, self._clock = home, clock
        self._begun: dict[str, tuple[float, str, subprocess.Popen[bytes]]] = {}

    def work(self, order: Order, recipe: Recipe) -> None:
        begun = self._begun.get(order.system)
        now = self._clock.monotonic()
        if begun is not None and (begun[2].poll() is None or (begun[1] == order.key and now - begun[0] < REPEAT_S)):
            return
        self._home.logs.mkdir(parents=True, exist_ok=True)
        with (self._home.logs / f"retraining-{order.system}.log").open("ab") as output:
            started = subprocess.Popen(
                [sys.executable, "-P", "-m", ENTRY, order.system],
                env=environment_of(os.environ, recipe, self._home),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._begun[order.system] = (now, order.key, started)

    def stop(self) -> None:
        """Ends work under way, also what an earlier controller began: its process leads a group of its own."""
        for lock in self._home.retraining.glob("*.lock"):
            with suppress(OSError, ValueError), lock.open("r+") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    os.killpg(int(file.read()), signal.SIGTERM)

    def profiles(self, system: str, ids: Sequence[str]) -> Mapping[str, Profile]:
        return profiles(read_inputs(self._home.inputs, system, ids))


def environment_of(own: Mapping[str, str], recipe: Recipe, home: Home) -> dict[str, str]:
    """Of a process that is to be like one that a person started: nothing of the actor that starts it."""
    kept = {name: value for name, value in own.items() if not name.startswith(("RAY_", "CUDA_VISIBLE"))}
    places = [*filter(None, recipe.variables.get("PYTHONPATH", "").split(os.pathsep)), str(PLATFORM_ROOT)]
    return {
        **kept,
        **recipe.variables,
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(places)),
        "PLATFORMOPS_HOME": str(home.root),
        "PLATFORMOPS_STORE": home.store_url,
        "PLATFORMOPS_ARTIFACTS": home.artifacts_url,
    }


class RetrainingThread(CrankThread):
    """Turns the crank of drift loops."""

    def __init__(self, home: Home, holder: str, tell: Callable[[str, str], None]) -> None:
        self._home = home
        opened = partial(_opened, home, holder)
        super().__init__("drift", opened, tell, tick_s=TICK_S, rest_s=REPEAT_S, patience_s=REPEAT_S)

    def stop(self) -> None:
        """The turn under way has ended on return, and so will its work: nobody starts a cluster for it again."""
        super().stop()
        ProcessPorts(self._home, SystemClock()).stop()


@contextmanager
def _opened(home: Home, holder: str) -> Iterator[RetrainingController]:
    store, clock = open_store(home.store_url), SystemClock()
    try:
        yield RetrainingController(store, ProcessPorts(home, clock), clock, holder)
    finally:
        store.close()
