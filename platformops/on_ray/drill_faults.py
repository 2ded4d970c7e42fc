"""The faults of node drills, each done for real to a node that was started for it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from platformops.clock import SystemClock
from platformops.errors import ClusterError
from platformops.health.remedy import Remedy
from platformops.on_ray import drill_places
from platformops.on_ray.actors import ask, running
from platformops.on_ray.control_groups import group_of, memory_texts
from platformops.on_ray.controller import NAME

if TYPE_CHECKING:
    from platformops.on_ray.drilling import Victim

START_S = 120.0
STALL_S, SLOW_S, BLIP_S = 20.0, 60.0, 3.0
LEFT_RATIO, HELD_RATIO = 0.006, 0.004
"""Of its memory, that a leak leaves to the node: below the second it gives some back, so that the kernel does not end
it before anybody could see it."""
BLOCK_BYTES = 4 << 20
BALLAST = "drill-ballast"
LEFT_BYTES = 64 << 10
RETURNS = 3


def kill(victim: Victim) -> None:
    victim.raylet().kill()


def freeze(victim: Victim) -> None:
    victim.raylet().suspend()


def kill_probe(victim: Victim) -> None:
    victim.probe().kill()


def freeze_worker(victim: Victim) -> None:
    class Sleeper:
        def pid(self) -> int:
            return os.getpid()

    actor = _on(victim, Sleeper)
    pid = int(ask("the drill's actor", actor.pid.remote(), START_S))
    victim.struck_from = victim.clock.monotonic()
    psutil.Process(pid).suspend()


def kill_controller(victim: Victim) -> None:
    os.kill(_controller(), signal.SIGKILL)


def stall_controller(victim: Victim) -> None:
    """Held still, unless somebody ends it meanwhile, which is as good."""
    pid = _controller()
    victim.undoing.add("resume", str(pid))
    os.kill(pid, signal.SIGSTOP)
    victim.clock.sleep(STALL_S)
    if psutil.pid_exists(pid):
        os.kill(pid, signal.SIGCONT)


def slow(victim: Victim) -> None:
    """Until it is weighed down; then it is fast again, as otherwise even its end would take its time."""
    drill_places.slow_down(victim.settled)
    try:
        with suppress(ClusterError):  # that nothing came of it is for the score to say
            victim.wait("it is weighed down", lambda: victim.record().remedy is Remedy.WEIGH_DOWN, SLOW_S)
    finally:
        drill_places.speed_up(victim.settled)


def leak(victim: Victim) -> None:
    """An actor of the node takes memory until next to nothing is left of what the node has, and keeps it so."""
    actor = _on(victim, Leak)
    ask("the drill's actor", actor.begin.remote(), START_S)
    victim.struck_from = victim.clock.monotonic()


class Leak:
    def begin(self) -> None:
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        folder, clock, blocks = group_of(os.getpid()), SystemClock(), list[bytearray]()
        while folder is not None:
            limit, used, stat = memory_texts(folder)
            fields = dict(line.partition(" ")[::2] for line in stat.splitlines())
            spare = int(fields.get("total_inactive_file") or fields.get("inactive_file") or 0)
            left = (int(limit) - int(used) + spare) / int(limit)
            if left > LEFT_RATIO:
                blocks.append(bytearray(os.urandom(1024)) * (BLOCK_BYTES // 1024))
            elif left < HELD_RATIO and blocks:
                blocks.pop()
            else:
                clock.sleep(0.02)


def fill(victim: Victim) -> None:
    """Its own small disk, seen through the eyes of its server."""
    folder = Path(f"/proc/{victim.raylet().pid}/root{victim.session}")
    with (folder / BALLAST).open("ab", buffering=0) as file:
        while (size := min(_free_bytes(folder) - LEFT_BYTES, 1 << 20)) >= 4096:
            file.write(b"\0" * size)


def blip(victim: Victim) -> None:
    drill_places.cut(victim.settled)
    victim.clock.sleep(BLIP_S)
    drill_places.mend(victim.settled)


def partition(victim: Victim) -> None:
    drill_places.cut(victim.settled)


def flap(victim: Victim) -> None:
    for _ in range(RETURNS):
        victim.raylet().kill()
        victim.wait("the death of its node is known", lambda: victim.record().is_dead)
        victim.begin()


STRIKES: Mapping[str, Callable[[Victim], None]] = {
    "probe": kill_probe,
    "worker": freeze_worker,
    "controller": kill_controller,
    "stall": stall_controller,
    "slow": slow,
    "leak": leak,
    "fill": fill,
    "blip": blip,
    "partition": partition,
    "flap": flap,
    "freeze": freeze,
    "kill": kill,
}


def _on(victim: Victim, what: type) -> ray.actor.ActorHandle:
    where = NodeAffinitySchedulingStrategy(victim.node, soft=False)
    actor = ray.remote(what).options(num_cpus=0, scheduling_strategy=where).remote()
    victim.actors.append(actor)
    return actor


def _controller() -> int:
    controller = running(NAME)
    if controller is None:
        raise ClusterError("no controller runs", remedy="platformops up SPEC")
    return int(ask(NAME, controller.pid.remote(), START_S))


def _free_bytes(folder: Path) -> int:
    stats = os.statvfs(folder)
    return stats.f_bavail * stats.f_frsize
