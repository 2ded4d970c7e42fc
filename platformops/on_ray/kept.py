"""The keeper's hands: the cluster of this machine, seen and repaired from outside; imports no ray."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import assert_never

import psutil

from platformops.clock import Clock
from platformops.errors import PlatformError
from platformops.home import Home
from platformops.keeper import errands
from platformops.keeper.records import Act, GiveUp, Kill, RestartHead, Resume, Sighting, StartGcs
from platformops.on_ray import cluster, servers
from platformops.store.records import Store

END_S = 5.0


class KeptCluster:
    """Implements the keeper's `Machine`. `alone` holds off every other starter of this home's cluster."""

    def __init__(
        self,
        where: Home,
        store: Store,
        clock: Clock,
        environment: Mapping[str, str],
        alone: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._where, self._store, self._clock, self._environment = where, store, clock, environment
        self._alone = alone
        self._servers: dict[str, psutil.Process | None] = {servers.GCS: None, servers.RAYLET: None}
        self._recorded_last: cluster.Cluster | None = None
        self._launched: tuple[int, servers.Launched] | None = None
        self._gcs: subprocess.Popen[bytes] | None = None
        """A GCS that was started here, kept to be reaped."""
        self._resumed: list[subprocess.Popen[bytes]] = []

    def look(self) -> Sighting:
        self._reap()
        ours = self._recorded()
        if ours is None:
            return Sighting(False, has_gcs=False, has_raylet=False, can_start_gcs=False)
        alive = {name: self._find(ours.temp_dir, name) for name in self._servers}
        self._learn_launch(alive[servers.GCS])
        return Sighting(
            True,
            has_gcs=alive[servers.GCS] is not None,
            has_raylet=alive[servers.RAYLET] is not None,
            can_start_gcs=self._launched is not None and servers.has_durable_state(self._launched[1]),
            stopped=servers.stopped_processes(ours.temp_dir),
            left=errands.left_behind(self._where.errands),
        )

    def act(self, act: Act) -> None:
        match act:
            case StartGcs() | RestartHead():
                with self._alone():
                    self._restart(act)
            case Kill(pid=pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            case Resume(errand=errand):
                self._resume(errand)
            case GiveUp():
                pass
            case _:
                assert_never(act)

    def wait(self, timeout_s: float) -> None:
        """On file descriptors of the processes themselves, so that their death is seen when it happens."""
        poll, opened = select.poll(), []
        for process in self._servers.values():
            with suppress(OSError):
                if process is not None:
                    opened.append(os.pidfd_open(process.pid))
                    poll.register(opened[-1], select.POLLIN)
        try:
            poll.poll(timeout_s * 1000)
        finally:
            for descriptor in opened:
                os.close(descriptor)

    def end_resumed(self) -> None:
        """What was resumed here is cancelled as by Ctrl-C, and killed when it does not end."""
        self._reap()
        for child in self._resumed:
            child.terminate()
        deadline = self._clock.monotonic() + END_S
        for child in self._resumed:
            with suppress(subprocess.TimeoutExpired):
                child.wait(timeout=max(0.0, deadline - self._clock.monotonic()))
        for child in self._resumed:
            child.kill()

    def _reap(self) -> None:
        self._resumed = [child for child in self._resumed if child.poll() is None]
        if self._gcs is not None:
            self._gcs.poll()

    def _recorded(self) -> cluster.Cluster | None:
        """None once the home is gone or says that nothing runs; a store that is away for a moment says nothing."""
        if not self._where.root.is_dir():
            return None
        with suppress(PlatformError):
            self._recorded_last = cluster.recorded(self._store)
        return self._recorded_last

    def _find(self, temp_dir: str, name: str) -> psutil.Process | None:
        known = self._servers[name]
        if known is None or not servers.is_alive(known):
            self._servers[name] = servers.server(temp_dir, name)
        return self._servers[name]

    def _learn_launch(self, gcs: psutil.Process | None) -> None:
        if gcs is None or (self._launched is not None and self._launched[0] == gcs.pid):
            return
        if launched := servers.launch_of(gcs):
            self._launched = gcs.pid, launched

    def _restart(self, act: StartGcs | RestartHead) -> None:
        """Looks again, alone: `down` may have ended the cluster meanwhile, or `up` have started it."""
        ours = self._recorded()
        if ours is None or (self._find(ours.temp_dir, servers.GCS) and self._find(ours.temp_dir, servers.RAYLET)):
            return
        if isinstance(act, StartGcs) and self._launched is not None:
            self._gcs = servers.start_gcs(self._launched[1], ours.address)
        else:
            self._launched = None
            cluster.start(self._where, self._store, self._environment)

    def _resume(self, name: str) -> None:
        path = self._where.errands / name
        with suppress(errands.ErrandTaken):
            errand = errands.taken_up(path, self._clock.now())
            given = {errands.TAKEN_UP: name, "PLATFORMOPS_HOME": str(self._where.root)}
            with (self._where.logs / f"resumed-{Path(name).stem}.log").open("ab") as output:
                self._resumed.append(
                    subprocess.Popen(
                        [sys.executable, "-P", "-m", "platformops.cli.main", *errand.arguments],
                        env={**self._environment, **errand.environment, **given},
                        cwd=errand.folder if Path(errand.folder).is_dir() else "/",
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=output,
                        start_new_session=True,
                    )
                )
