"""Gives steps their cluster: found, or started, when the first step that needs one is about to run."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from platformops.clock import Clock
from platformops.home import Home
from platformops.pipeline.records import Failure, Progress
from platformops.pipeline.wire import Launcher, News, Returned, StepRequest
from platformops.store.records import Store

if TYPE_CHECKING:
    from platformops.on_ray.cluster import Cluster

STAGE = "cluster"
CLUSTER_LOCK, SERVING_LOCK = "cluster.lock", "serving.lock"


class ClusterOnDemand:
    """One cluster for a whole command; several threads may ask for it, one starts it."""

    def __init__(self, where: Home, store: Store, clock: Clock, show: Callable[[Progress], None]) -> None:
        self._where, self._store, self._clock, self._show = where, store, clock, show
        self._lock = threading.Lock()
        self._cluster: Cluster | None = None

    def get(self) -> Cluster:
        """The cluster of RAY_ADDRESS, the one that runs here, or a new one. Raises ClusterError."""
        with self._lock:
            if self._cluster is None:
                self._cluster = self._found_or_started()
                os.environ.update(self._cluster.environment)
            return self._cluster

    def keep(self) -> None:
        """Where the cluster was started here, a keeper looks after it afterwards."""
        from platformops.keeper import process as keeper
        from platformops.on_ray import cluster

        if cluster.recorded(self._store) is not None:
            keeper.ensure(self._where, os.environ)

    def _found_or_started(self) -> Cluster:
        from platformops.on_ray import cluster

        began = self._clock.monotonic()
        how, found = "attached", cluster.find(self._store, os.environ)
        if found is None:
            self._show(Progress(STAGE, "running", message="starting Ray on this machine"))
            with one_at_a_time(self._where, CLUSTER_LOCK):
                found = cluster.find(self._store, os.environ)
                if found is None:
                    how, found = "started", cluster.start(self._where, self._store, os.environ)
        if found.ours:
            self.keep()
        elapsed_s = self._clock.monotonic() - began
        message = f"{how}, {found.address}, authentication {found.authentication}"
        self._show(Progress(STAGE, "done", message=message, elapsed_s=elapsed_s))
        return found


@contextmanager
def one_at_a_time(where: Home, lock: str) -> Iterator[None]:
    """Two commands at once must not start two clusters or gateways; the lock goes with its process, however it ends.

    One lock each: a cluster that dies while a gateway starts on it is restarted meanwhile.
    """
    with (where.root / lock).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class OnClusterLauncher:
    """Launches plain steps as they are, and those that use the cluster with its address and token.

    Before the first of those, `check` may refuse the cluster.
    """

    def __init__(self, cluster: ClusterOnDemand, clock: Clock, *, check: Callable[[Cluster], None]) -> None:
        self._cluster, self._clock, self._check = cluster, clock, check
        self._lock = threading.Lock()
        self._is_checked = False
        self._launchers: dict[bool, Launcher] = {}

    def run(
        self, request: StepRequest, *, stop: threading.Event, on_news: Callable[[News], None]
    ) -> Returned | Failure:
        return self._launcher(on_cluster=request.on_cluster).run(request, stop=stop, on_news=on_news)

    def close(self) -> None:
        for launcher in self._launchers.values():
            launcher.close()

    def _launcher(self, *, on_cluster: bool) -> Launcher:
        from platformops.pipeline.launcher import WorkerLauncher

        environment = dict(os.environ)
        if on_cluster:
            environment |= self._checked().environment
        with self._lock:
            if on_cluster not in self._launchers:
                self._launchers[on_cluster] = WorkerLauncher(environment=environment, clock=self._clock)
            return self._launchers[on_cluster]

    def _checked(self) -> Cluster:
        cluster = self._cluster.get()
        with self._lock:
            if not self._is_checked:
                self._check(cluster)
                self._is_checked = True
        return cluster
