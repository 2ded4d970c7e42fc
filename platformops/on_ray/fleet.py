"""Node health on a real cluster: the ports of `fleet` by datagrams, Ray's tables and a few calls, and its thread."""

from __future__ import annotations

import queue
import secrets
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import ray

from platformops.clock import Clock, SystemClock
from platformops.errors import ClusterError
from platformops.fleet import FleetController
from platformops.health.crashes import Life
from platformops.health.nodes import Member
from platformops.health.records import ChannelAnswer
from platformops.health.wire import LONGEST_BYTES, Order, Report, order_bytes, report_from
from platformops.home import Home
from platformops.on_ray.answering import Answer, Question
from platformops.on_ray.hands import RPC_TIMEOUT_S, Hands, RayHands
from platformops.on_ray.turning import CrankThread
from platformops.replica_health import ReplicaHealth
from platformops.scheduler.records import Team
from platformops.store.open import open_store
from platformops.store.records import JsonObject, Store

TICK_S = 0.25
TABLE_S = 1.0
SERVING_S = 5.0
LIVES_S = 30.0
"""Between two looks at Ray's table of actors, which may be long."""
CHANNEL_S = 1.5
"""A healthy server answers in milliseconds; one on a machine with ten times too much work in a few hundred."""
CALLS = 8
REPEAT_S = 5.0
"""Before the same thing is asked of the cluster again."""
LAST_INCARNATION = 2**62
LISTENER = "health/listener"
QUEUED_BYTES = 4 << 20
"""What comes while this process is stopped waits in the kernel, and is read before anybody is judged."""


class RayFleet:
    """Implements `FleetPorts`; whatever may block has a thread, so that the loop that listens never does."""

    def __init__(self, store: Store, clock: Clock, hands: Hands, host: str) -> None:
        self._clock, self._hands = clock, hands
        self._key, self._socket = _listener(store, host)
        self._addresses: dict[str, Any] = {}
        self._servers: Mapping[str, tuple[str, int]] = {}
        self._table: Sequence[Member] = ()
        self._waiting: Sequence[JsonObject] = ()
        self._threads = ThreadPoolExecutor(CALLS, "fleet")
        self._asking: dict[str, Future[None]] = {}
        self._answers: queue.SimpleQueue[tuple[str, ChannelAnswer]] = queue.SimpleQueue()
        self._placing: dict[tuple[str, int], object] = {}
        self._asked_at: dict[tuple[str, ...], float] = {}
        self._called: dict[tuple[str, ...], Future[None]] = {}
        self._stated: dict[str, object] = {}
        """What the whole cluster was told last, by what it is about."""
        self._served: Mapping[str, Mapping[str, float]] | None = None
        self._lives: Sequence[Life] | None = None
        self._ended = threading.Event()
        self.refresh()
        threading.Thread(target=self._refresh_always, name="nodes", daemon=True).start()
        threading.Thread(target=self._look_always, name="serving", daemon=True).start()

    def members(self) -> Sequence[Member]:
        return self._table

    def waiting(self) -> Sequence[JsonObject]:
        return self._waiting

    def reports(self) -> Sequence[Report]:
        found: list[Report] = []
        while True:
            try:
                datagram, address = self._socket.recvfrom(LONGEST_BYTES)
            except BlockingIOError:
                return found
            report = report_from(datagram, self._key)
            if report is not None:
                self._addresses[report.heartbeat.node] = address
                found.append(report)

    def answers(self) -> Sequence[tuple[str, ChannelAnswer]]:
        found: list[tuple[str, ChannelAnswer]] = []
        with suppress(queue.Empty):
            while True:
                found.append(self._answers.get_nowait())
        return found

    def serving(self) -> Mapping[str, Mapping[str, float]] | None:
        served, self._served = self._served, None
        return served

    def lives(self) -> Sequence[Life] | None:
        lives, self._lives = self._lives, None
        return lives

    def ask(self, node: str) -> None:
        under_way = self._asking.get(node)
        if node in self._servers and (under_way is None or under_way.done()):
            self._asking[node] = self._threads.submit(self._ask, node)

    def order(self, order: Order) -> None:
        with suppress(OSError):  # the next report is answered again
            self._socket.sendto(order_bytes(order, self._key), self._addresses[order.node])

    def dismiss(self, epoch: int) -> None:
        """Every probe that was heard ends itself: whoever stops the controller wants none of them."""
        for node in self._addresses:
            self.order(Order(node, epoch, LAST_INCARNATION, LAST_INCARNATION))

    def place_probe(self, node: str, incarnation: int) -> None:
        if (node, incarnation) in self._placing or node not in self._servers:
            return
        before = [task for (other, _), task in self._placing.items() if other == node]
        self._placing = {one: task for one, task in self._placing.items() if one[0] != node}
        host, port = self._socket.getsockname()[:2]
        server = self._servers[node]
        self._placing[node, incarnation] = self._hands.begin_probe(node, incarnation, self._key, (host, port), server)
        if failures := [why for task in before if (why := self._hands.failure(task))]:
            raise ClusterError(f"the probe of {node[:8]} did not start: {failures[0]}")

    def retire(self, node: str, reason: str) -> None:
        self._call(("retire", node), lambda: self._hands.unregister(node, reason))

    def drain(self, node: str, reason: str) -> None:
        self._call(("drain", node), lambda: self._hands.drain(node, reason))

    def avoid(self, nodes: Sequence[str], suspects: Sequence[str], rates_per_s: Mapping[str, float]) -> None:
        wanted = tuple(nodes), tuple(suspects), dict(rates_per_s)
        self._state("avoid", wanted, lambda: self._hands.avoid(nodes, suspects, rates_per_s))

    def checkpoint(self, node: str, at: float) -> None:
        self._call(("checkpoint", node), lambda: self._hands.checkpoint(node, at))

    def share(self, teams: Mapping[str, Team]) -> None:
        wanted = dict(teams)
        self._state("share", wanted, lambda: self._hands.share(wanted))

    def close(self) -> None:
        self._ended.set()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._socket.close()

    def refresh(self) -> None:
        """Ray's table as it is now; it stays as it was while the GCS does not answer."""
        with suppress(ClusterError):
            self._table, self._servers = self._hands.table()
            self._waiting = self._hands.waiting()

    def _refresh_always(self) -> None:
        while not self._ended.wait(TABLE_S):
            self.refresh()

    def _look_always(self) -> None:
        """On a thread of its own: a gateway that is held still must not hold up the table of nodes."""
        looked_at = -LIVES_S
        while not self._ended.wait(SERVING_S):
            try:
                self._served = self._hands.serving()
            except ClusterError:  # a gateway that does not answer has served nobody meanwhile
                self._served = {}
            if self._clock.monotonic() - looked_at >= LIVES_S:
                looked_at = self._clock.monotonic()
                with suppress(ClusterError):
                    self._lives = self._hands.lives()

    def _ask(self, node: str) -> None:
        question = Question(*self._servers[node])
        answer = question.wait(CHANNEL_S)
        question.close()
        said = {Answer.ANSWERED: ChannelAnswer.ANSWERED, Answer.REFUSED: ChannelAnswer.REFUSED}
        self._answers.put((node, said.get(answer, ChannelAnswer.SILENT)))

    def _state(self, what: str, wanted: object, call: Callable[[], None]) -> None:
        """At once where it changed, and again every few seconds."""
        if self._stated.get(what) != wanted:
            self._asked_at.pop((what,), None)
        self._stated[what] = wanted
        self._call((what,), call)

    def _call(self, what: tuple[str, ...], call: Callable[[], None]) -> None:
        """Once every few seconds; it states an end, so that another time is harmless. Raises ClusterError when the time
        before went wrong."""
        now = self._clock.monotonic()
        if now - self._asked_at.get(what, -REPEAT_S) < REPEAT_S:
            return
        self._asked_at[what] = now
        before, self._called[what] = self._called.get(what), self._threads.submit(call)
        if before is not None and before.done() and (error := before.exception()) is not None:
            raise ClusterError(f"{' '.join(what)}: {error}")


class FleetThread(CrankThread):
    """Turns the crank of node health."""

    def __init__(self, home: Home, holder: str, tell: Callable[[str, str], None]) -> None:
        opened = partial(_opened, home, holder)
        super().__init__("fleet", opened, tell, tick_s=TICK_S, rest_s=REPEAT_S, patience_s=RPC_TIMEOUT_S)


@contextmanager
def _opened(home: Home, holder: str) -> Iterator[FleetController]:
    """A crank with its own store and ports; its probes are dismissed when it ends in good order."""
    clock, store = SystemClock(), open_store(home.store_url)
    try:
        ports = RayFleet(store, clock, RayHands(clock), str(ray.util.get_node_ip_address()))
        try:
            fleet = FleetController(store, ports, clock, holder, replicas=ReplicaHealth(store))
            yield fleet
            ports.dismiss(fleet.epoch)
        finally:
            ports.close()
    finally:
        store.close()


def _listener(store: Store, host: str) -> tuple[bytes, socket.socket]:
    """Key and socket on which probes report: those of the controller before, so that its probes are heard at once."""
    entry = store.get(LISTENER)
    key = bytes.fromhex(str(entry.value["key"])) if entry else secrets.token_bytes(32)
    found = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    found.setblocking(False)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, QUEUED_BYTES)
    for port in (int(str(entry.value["port"])), 0) if entry and entry.value["host"] == host else (0,):
        with suppress(OSError):
            found.bind((host, port))
            break
    bound = found.getsockname()[1]
    if entry is None or (entry.value["host"], entry.value["port"]) != (host, bound):
        store.put(LISTENER, {"host": host, "port": bound, "key": key.hex()}, expect=None)
    return key, found
