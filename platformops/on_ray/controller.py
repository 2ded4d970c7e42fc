"""The controller as a detached actor: a thread that turns the crank against Ray Serve and the gateway.

The process keeps nothing that matters: killed, it comes back with a new epoch, finds its predecessor's work in the
store, and gathers again whatever evidence was under way.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
import traceback
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import httpx
import ray

from platformops.clock import SystemClock
from platformops.controller import Node, take_over, turn
from platformops.delivery.evidence import Tallies
from platformops.delivery.records import (
    Evaluation,
    ExaminationKind,
    Examine,
    Examined,
    Replay,
    Revision,
    RevisionState,
    RevisionStatus,
    Rollout,
    Route,
)
from platformops.errors import ClusterError, LeaseLost, PlatformError
from platformops.home import Home
from platformops.observation.log_lines import line as log_line
from platformops.on_ray import examination, gateway, rehearsal, serving
from platformops.on_ray.actors import ask, running, stop
from platformops.on_ray.fleet import FleetThread
from platformops.on_ray.priority import go_first
from platformops.on_ray.retraining import RetrainingThread
from platformops.on_ray.session import NAMESPACE, on_this_machine
from platformops.security.keys import STORED_UNDER, new_key
from platformops.store.artifacts import Artifacts
from platformops.store.open import open_store
from platformops.store.records import Put, Store

NAME = "platformops-controller"
TICK_S = 0.5
EXAMINERS = 2
KEY_S = 900.0
"""Longer than any replay; the key is deleted when the replay ends, and this holds for a controller that died."""
REQUEST_MARGIN_S = 5.0
START_TIMEOUT_S = 60.0
CALL_TIMEOUT_S = 20.0
LOG_FILE = "controller.jsonl"


class RayPorts:
    """The controller's ports on a real cluster. Evidence is gathered in threads and kept until it is asked for."""

    def __init__(self, home: Home, store: Store) -> None:
        self._home, self._store, self._clock = home, store, SystemClock()
        self._artifacts = Artifacts(home.artifacts_url, cache=home.cache)
        self._threads = ThreadPoolExecutor(EXAMINERS, "examine")
        self._under_way: dict[str, Future[Examined]] = {}
        self._deployed_at: dict[str, float] = {}

    def revisions(self) -> Mapping[str, RevisionStatus]:
        """As Serve tells it, except that Serve keeps the time of an application's first deployment only: without ours,
        one that fails would be started afresh without a pause."""
        seen = serving.revision_statuses()
        ours = {name: max(s.deployed_at, self._deployed_at.get(name, 0.0)) for name, s in seen.items()}
        return {name: replace(status, deployed_at=ours[name]) for name, status in seen.items()}

    def routed(self, systems: Sequence[str]) -> Mapping[str, int]:
        return gateway.routed(systems)

    def nodes(self) -> Sequence[Node]:
        """Living nodes, and the dead ones that Ray remembers, in the order of their ids."""
        found = (
            Node(
                n["NodeID"], n["NodeManagerAddress"], "alive" if n["Alive"] else "dead", n["Resources"].get("CPU", 0.0)
            )
            for n in ray.nodes()
        )
        return tuple(sorted(found, key=lambda n: n.id))

    def deploy(self, revision: Revision) -> None:
        seen = serving.revision_status(revision.name)
        if seen.state in (RevisionState.ABSENT, RevisionState.FAILED):
            self._deployed_at[revision.name] = self._clock.now()
            serving.deploy_revision(revision, self._home)

    def remove(self, name: str) -> None:
        serving.remove_revision(name)

    def set_route(self, route: Route) -> None:
        gateway.set_route(route)

    def examine(self, request: Examine) -> None:
        if request.key in self._under_way:
            return
        self._under_way = {key: future for key, future in self._under_way.items() if not future.done()}
        self._under_way[request.key] = self._threads.submit(self._gather, request)

    def examined(self, key: str) -> Examined | None:
        future = self._under_way.get(key)
        return future.result() if future and future.done() else None

    def tallies(self) -> Sequence[Tallies]:
        return gateway.tallies()

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _gather(self, request: Examine) -> Examined:
        """Evidence, or the problem in its place: whatever a candidate brings must not end the controller."""
        is_offline = request.kind is ExaminationKind.OFFLINE
        try:
            return (
                examination.evaluate(request.rollout, self._artifacts) if is_offline else self._replay(request.rollout)
            )
        except Exception as error:
            problem = error.message if isinstance(error, PlatformError) else f"{type(error).__name__}: {error}"
            return Evaluation({}, problem=problem) if is_offline else Replay(0, 0, (), None, problem)

    def _replay(self, rollout: Rollout) -> Replay:
        """Through the gateway as any client, with a key of its own that only this thread knows."""
        key = new_key(
            scopes=("operate",),
            systems=(rollout.system,),
            now=self._clock.now(),
            expires_at=self._clock.now() + KEY_S,
        )
        stored = replace(key.put, key=f"{STORED_UNDER}controller-{rollout.system}", expect=None)
        try:
            self._store.commit([stored])
            gateway.refresh_gateway()
            with self._client(rollout, key.token) as client:
                seen = examination.replay(rollout, self._artifacts, client, self._clock)
                if not seen.asked:
                    return seen
                rows = examination.rows_of(rollout.candidate, self._artifacts)
                is_servable = seen.asked == seen.answered
                rehearsed = rehearsal.rehearse(
                    rollout, rows, client, self._clock, serving.probed, is_servable=is_servable
                )
                return replace(seen, rehearsal=rehearsed)
        finally:
            self._store.commit([Put(stored.key, None, expect=None)])

    def _client(self, rollout: Rollout, token: str) -> httpx.Client:
        address = gateway.gateway_address()
        if address is None:
            raise ClusterError("no gateway runs", remedy="`platformops up` starts it")
        timeout_s = rollout.candidate.options.get("timeout_s")
        limit_s = (timeout_s if isinstance(timeout_s, int | float) else 10.0) + REQUEST_MARGIN_S
        return httpx.Client(
            base_url=address, headers={"Authorization": f"Bearer {token}"}, timeout=limit_s, trust_env=False
        )


class ControllerProcess:
    """What runs in the actor: one thread that turns the crank until it is stopped or overtaken."""

    def __init__(self, home: Home) -> None:
        go_first()
        self._home, self._clock = home, SystemClock()
        self._store = open_store(home.store_url)
        home.logs.mkdir(parents=True, exist_ok=True)
        self._log = (home.logs / LOG_FILE).open("a", encoding="utf-8", buffering=1)
        holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._epoch = take_over(self._store, holder, self._clock.now())
        self._ports = RayPorts(home, self._store)
        self._stopped, self._nudged = threading.Event(), threading.Event()
        self._said: tuple[str, ...] = ()
        self._write("started", epoch=self._epoch)
        self._fleet = FleetThread(home, holder, lambda event, reason: self._write(event, reason=f"nodes: {reason}"))
        self._drift = RetrainingThread(
            home, holder, lambda event, reason: self._write(event, reason=f"drift: {reason}")
        )
        self._thread = threading.Thread(target=self._run, name="tick", daemon=True)
        self._thread.start()

    def epoch(self) -> int:
        return self._epoch

    def store_url(self) -> str:
        return self._home.store_url

    def pid(self) -> int:
        return os.getpid()

    def nudge(self) -> None:
        """Turns now rather than at the next tick."""
        self._nudged.set()

    def stop(self) -> None:
        """The turn under way has ended on return."""
        self._stopped.set()
        self._nudged.set()
        self._thread.join(timeout=CALL_TIMEOUT_S)
        self._fleet.stop()
        self._drift.stop()
        self._ports.close()

    def _run(self) -> None:
        try:
            while not self._stopped.is_set():
                is_settled = self._turn()
                self._nudged.wait(TICK_S if is_settled else 0.0)
                self._nudged.clear()
        except LeaseLost as lost:
            self._write("overtaken", reason=lost.message)
        except BaseException:
            # A controller whose thread is gone would look alive for ever; Ray starts a process that died afresh.
            self._write("died", reason=traceback.format_exc())
            os._exit(1)

    def _turn(self) -> bool:
        """Whether nothing is left to decide for now. What the edge cannot do is said once and tried again."""
        try:
            done = turn(self._store, self._ports, self._clock, self._epoch)
        except LeaseLost:
            raise
        except (PlatformError, ray.exceptions.RayError) as error:
            self._say((str(error),))
            return True
        for reason in done.reasons:
            self._write("decided", reason=reason)
        self._say(done.problems)
        return done.is_settled

    def _say(self, problems: tuple[str, ...]) -> None:
        for problem in set(problems) - set(self._said):
            self._write("problem", reason=problem)
        self._said = problems

    def _write(self, event: str, **fields: str | int) -> None:
        message = str(fields.pop("reason", event))
        self._log.write(log_line(self._clock.now(), event, message, about={"pid": os.getpid(), **fields}) + "\n")


def start_controller(home: Home) -> int:
    """The epoch of the controller, started unless it runs already. Raises ClusterError when it does not come up, or
    when this cluster's controller keeps another store."""
    actor = ray.remote(ControllerProcess).options(
        name=NAME,
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        num_cpus=0,
        max_restarts=-1,
        max_task_retries=0,
        max_concurrency=4,
        resources=on_this_machine() if home.store_url.startswith("sqlite:") else {},
    )
    controller = actor.remote(home)
    keeps = str(ask(NAME, controller.store_url.remote(), START_TIMEOUT_S))
    if keeps != home.store_url:
        raise ClusterError(
            f"this cluster is controlled from another store, {_without_password(keeps)}",
            remedy="use that home, or stop that controller with `platformops down` there",
        )
    return int(ask(NAME, controller.epoch.remote(), START_TIMEOUT_S))


def nudge_controller() -> None:
    """The controller looks at the store now; without one this does nothing, as the next one looks anyway."""
    actor = running(NAME)
    if actor is not None:
        actor.nudge.remote()


def stop_controller() -> bool:
    """The controller ends after its turn; what it serves goes on being served. False when there was none."""
    return stop(NAME)


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
