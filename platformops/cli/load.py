"""Steady requests to a live system from a few connections: how each ended, and labels for some of them."""

from __future__ import annotations

import json
import random
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import httpx
import numpy as np

from platformops.clock import Clock
from platformops.delivery.records import Revision
from platformops.errors import PlatformError, UserError
from platformops.store.artifacts import Artifacts

ANSWER_S = 60.0
"""Longer than any system's own limit is worth waiting for."""
LABELLED = 0.5
"""Of answers, those whose label is sent back: the gateway keeps few, and those that it keeps come at even intervals,
which labels at even intervals could miss for ever."""
LABEL_AFTER_S = 1.5
"""A copy's answer is kept beside the request's own by then."""
RETRY_S = 0.05


@dataclass(frozen=True, slots=True)
class Rows:
    """Held-out rows as clients send them, with their true labels."""

    contents: Sequence[bytes]
    labels: Sequence[str]


def rows_of(revision: Revision, artifacts: Artifacts) -> Rows:
    """The rows that the evaluation of a revision kept. Raises UserError where there are none."""
    try:
        directory = artifacts.open(revision.evaluation, revision.evaluation_digest)
        return _read(directory)
    except (PlatformError, OSError, ValueError, KeyError) as error:
        raise UserError(
            f"the evaluation of {revision.version_name} has no rows to send: {error}",
            remedy="make it again: platformops run SPEC",
        ) from error


def _read(directory: Path) -> Rows:
    classes = json.loads((directory / "metrics.json").read_text(encoding="utf-8"))["classes"]
    with np.load(directory / "parity.npz", allow_pickle=False) as found:
        content, offsets = found["content"].tobytes(), found["offsets"].tolist()
        labels = [str(classes[label]) for label in found["labels"].tolist()]
        return Rows([content[a:b] for a, b in pairwise(offsets)], labels)


@dataclass(slots=True)
class Seen:
    """What became of the requests so far."""

    requests: int = 0
    lost: list[str] = field(default_factory=list)
    """One problem a request that was not answered with 200."""
    interrupted: int = 0
    """Requests that met a broken or refused connection and were sent again."""
    last_at: dict[str, float] = field(default_factory=dict)
    """When each revision answered last, in seconds since the epoch."""
    latencies_s: deque[float] = field(default_factory=lambda: deque(maxlen=2000))
    """Of the latest answers."""


class Load:
    """Requests from `connections` threads, together `rate_per_s` a second where the system keeps up with that."""

    def __init__(
        self,
        url: str,
        token: str,
        rows: Rows,
        clock: Clock,
        *,
        rate_per_s: float,
        connections: int,
        patience_s: float,
        labelled: float = LABELLED,
    ) -> None:
        """`url` is that of a system, `http://host:port/system`; a connection that breaks is tried again for
        `patience_s`. The label of a `labelled` share of answers is sent back."""
        self._labelled = labelled
        self._url, self._rows, self._clock, self._patience_s = url, rows, clock, patience_s
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/octet-stream"}
        self._period_s = connections / rate_per_s
        self._lock, self._stopped = threading.Lock(), threading.Event()
        self._labels: deque[tuple[float, str, str]] = deque()
        self._luck = random.Random(0)
        self.seen = Seen()
        self._threads = [threading.Thread(target=self._ask_always, args=(n,), daemon=True) for n in range(connections)]
        self._threads.append(threading.Thread(target=self._label_always, daemon=True))

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(timeout=ANSWER_S)

    def typical_s(self) -> float:
        """Median of the latest answers; 0 before there is any."""
        with self._lock:
            times = sorted(self.seen.latencies_s)
        return times[len(times) // 2] if times else 0.0

    def _client(self) -> httpx.Client:
        # Proxy settings of the environment would carry the key off this machine.
        return httpx.Client(headers=self._headers, timeout=ANSWER_S, trust_env=False)

    def _ask_always(self, number: int) -> None:
        row, due_at = number, self._clock.monotonic()
        with self._client() as client:
            while not self._stopped.is_set():
                self._ask(client, row % len(self._rows.contents))
                row += len(self._threads) - 1
                due_at = max(due_at + self._period_s, self._clock.monotonic() - self._period_s)
                self._stopped.wait(max(0.0, due_at - self._clock.monotonic()))

    def _ask(self, client: httpx.Client, row: int) -> None:
        began, problem, interrupted = self._clock.monotonic(), "", 0
        while True:
            sent = self._clock.monotonic()
            try:
                reply = client.post(f"{self._url}/predict", content=self._rows.contents[row])
                problem = "" if reply.status_code == 200 else f"HTTP {reply.status_code}: {reply.text[:200]}"
                break
            except httpx.TransportError as error:
                reply, problem, interrupted = None, f"{type(error).__name__}: {error}", 1
                if self._clock.monotonic() - began > self._patience_s or self._stopped.wait(RETRY_S):
                    break
        self._note(reply, problem, interrupted, self._clock.monotonic() - sent, self._rows.labels[row])

    def _note(self, reply: httpx.Response | None, problem: str, interrupted: int, took_s: float, label: str) -> None:
        now = self._clock.now()
        with self._lock:
            self.seen.requests += 1
            self.seen.interrupted += interrupted
            if problem or reply is None:
                self.seen.lost.append(problem)
                return
            document = reply.json()
            self.seen.last_at[document["revision"]] = now
            self.seen.latencies_s.append(took_s)
            if self._luck.random() < self._labelled:
                self._labels.append((now + LABEL_AFTER_S, document["request_id"], label))

    def _label_always(self) -> None:
        """Labels are worth nothing to this load itself: one that cannot be sent is left out."""
        with self._client() as client:
            while not self._stopped.wait(0.05):
                while self._labels and self._labels[0][0] <= self._clock.now():
                    _, request_id, label = self._labels.popleft()
                    try:
                        client.post(f"{self._url}/feedback", json={"request_id": request_id, "label": label})
                    except httpx.HTTPError:
                        break
