"""Several raylets on this machine under the platform's controller, and what may befall them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from platformops.delivery.decisions import explain
from platformops.delivery.records import Decision
from platformops.fleet import STATUS
from platformops.health.nodes import NODES, WISHES, NodeRecord, Wish, Wished, node_from, wish_json
from platformops.home import Home, home_at
from platformops.store.open import open_store
from platformops.store.records import Store

PROJECT = Path(__file__).resolve().parents[1]
CPUS = 2
LOOK_S = 0.02
SETTLE_S = 12.0
PROBE = "platformops.on_ray.probe"


class Site:
    """A cluster of one head and some more raylets, a home, and a controller that watches them."""

    def __init__(self, home: Home, num_nodes: int) -> None:
        import ray
        from ray.cluster_utils import Cluster

        from platformops.on_ray.session import keep_stdout

        keep_stdout()

        # Ray's default place would name this cluster to every other process of the machine.
        ray._private.utils.write_ray_address = ray._private.utils.reset_ray_address = lambda *_, **__: None
        self.home: Home = home
        self.store: Store = open_store(home.store_url)
        arguments = {"num_cpus": 2, "include_dashboard": False, "object_store_memory": 100_000_000}
        self._cluster = Cluster(initialize_head=True, head_node_args={**arguments, "temp_dir": str(home.root / "r")})
        self.nodes: dict[str, Any] = {}
        self.joined_at: dict[str, float] = {}
        os.environ["RAY_ADDRESS"] = self._cluster.address
        ray.init(
            address=self._cluster.address, namespace="platformops", log_to_driver=False, logging_level="ERROR",
            runtime_env={"env_vars": {"PYTHONPATH": str(PROJECT)}},
        )  # fmt: skip
        for _ in range(num_nodes):
            self.add()

    def add(self) -> str:
        """One raylet more; its id."""
        node = self._cluster.add_node(num_cpus=CPUS, object_store_memory=100_000_000)
        self.nodes[node.node_id], self.joined_at[node.node_id] = node, time.monotonic()
        return str(node.node_id)

    def is_settled(self, node: str) -> bool:
        """Whether it is heard, and has been there for longer than a node is let off its silence."""
        return time.monotonic() - self.joined_at[node] > SETTLE_S and self.is_heard(node)

    def raylet(self, node: str) -> psutil.Process:
        return psutil.Process(self.nodes[node].all_processes["raylet"][0].process.pid)

    def probe(self, node: str) -> psutil.Process | None:
        """None while there is none."""
        with contextlib.suppress(psutil.Error):
            raylet = str(self.raylet(node).pid)
            for process in psutil.process_iter(["cmdline"]):
                with contextlib.suppress(psutil.Error):
                    if PROBE in (process.info["cmdline"] or []) and process.environ().get("RAY_RAYLET_PID") == raylet:
                        return process
        return None

    def end_probe(self, node: str) -> None:
        """It is gone on return."""
        probe = self.probe(node)
        if probe is not None:
            probe.kill()
            psutil.wait_procs([probe], timeout=5)

    def controller_pid(self) -> int:
        from platformops.on_ray.actors import ask, running
        from platformops.on_ray.controller import NAME

        return int(ask(NAME, running(NAME).pid.remote(), 60.0))  # type: ignore[union-attr]

    def remove(self, node: str) -> None:
        """Whatever is left of it ends."""
        for process in processes_of(self, node):
            with contextlib.suppress(psutil.Error):
                process.kill()
        del self.nodes[node]

    def record(self, node: str) -> NodeRecord | None:
        entry = self.store.get(NODES + node)
        return node_from(entry.value) if entry else None

    def is_dead(self, node: str) -> bool:
        record = self.record(node)
        return record is not None and record.is_dead

    def has_ended(self, node: str, pid: int) -> bool:
        """Whether the controller has decided that this worker is ended."""
        record = self.record(node)
        return record is not None and any(killed.pid == pid for killed in record.killed)

    def told(self, node: str) -> tuple[Decision, ...]:
        return explain(self.store, node)

    def decisions(self) -> list[tuple[str, str]]:
        """(node, decision) of everything that was ever decided about nodes."""
        found = self.store.scan("decision/")
        return [(str(e.value["subject"]), str(e.value["decision"])) for e in found]

    def is_heard(self, node: str) -> bool:
        entry = self.store.get(STATUS)
        rows = entry.value["nodes"] if entry else []
        assert isinstance(rows, list)
        found = [row["heard_s_ago"] for row in rows if isinstance(row, dict) and row["id"] == node]
        return any(isinstance(heard_s, int | float) and heard_s < 3.0 for heard_s in found)

    def wish(self, node: str, wish: Wish) -> None:
        self.store.put(WISHES + node, wish_json(Wished(wish, "benchmark", time.time())), expect=None)

    def close(self) -> None:
        import ray

        for node in self.nodes:
            with contextlib.suppress(psutil.Error):
                self.raylet(node).send_signal(signal.SIGCONT)
        ray.shutdown()
        self._cluster.shutdown()
        self.store.close()


def processes_of(made: Site, node: str) -> list[psutil.Process]:
    """The raylet, everything below it, and its probe: what a machine that dies takes with it."""
    probe = made.probe(node)
    found = [probe] if probe else []
    with contextlib.suppress(psutil.Error):
        raylet = made.raylet(node)
        found = [raylet, *raylet.children(recursive=True), *found]
    return found


@contextlib.contextmanager
def site(num_nodes: int) -> Iterator[Site]:
    """A site of its own that is gone afterwards, with every process of it."""
    root = Path(tempfile.mkdtemp(prefix="pf", dir="/tmp"))
    token = root / "token"
    token.touch(mode=0o600)
    token.write_text("7" * 64)
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "OMP_NUM_THREADS": "1"}
    os.environ |= {"PYTHONPATH": str(PROJECT), "RAY_DISABLE_IMPORT_WARNING": "1", "PLATFORMOPS_SITE": str(root)}
    home = home_at(root / "home")
    home.root.mkdir()
    made = Site(home, num_nodes)
    try:
        yield made
    finally:
        with contextlib.suppress(Exception):
            made.close()
        left = [p for p in psutil.process_iter() if _is_of(p, str(root))]
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=5)
        shutil.rmtree(root, ignore_errors=True)


def until(condition: Callable[[], object], what: str, timeout_s: float = 120.0) -> float:
    """Seconds until it was true."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > timeout_s:
            raise SystemExit(f"{what}: not within {timeout_s:g} s")
        time.sleep(LOOK_S)
    return time.monotonic() - began


def _is_of(process: psutil.Process, root: str) -> bool:
    try:
        return bool(process.pid != os.getpid() and process.environ().get("PLATFORMOPS_SITE") == root)
    except psutil.Error:
        return False
