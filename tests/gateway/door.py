"""A gateway with replicas that answer in this process, asked in memory or over a real socket."""

import asyncio
import contextlib
import itertools
import json
import resource
import select
import socket
import threading
import time

import httpx
import uvloop

from platformops.clock import SystemClock
from platformops.delivery.records import Revision, Route, System
from platformops.gateway.app import Gateway, Policy
from platformops.gateway.call import Answer, RevisionUnknown
from platformops.gateway.protocol import HttpLimits
from platformops.gateway.served import renew
from platformops.gateway.server import HttpServer, bind
from platformops.security.keys import new_key
from platformops.store.records import Entry

PREDICTION = {"label": "3", "probability": 0.9, "probabilities": {"3": 0.9, "8": 0.1}}


class Replicas:
    """Stands where the replicas are: answers every item, or does what `behave` says."""

    def __init__(self):
        self.calls = []
        self.behave = None
        self.deployed = {"digits-r1", "digits-r2"}

    async def __call__(self, revision, items, *, deadline, queued, traces=()):
        self.calls.append((revision, list(items)))
        if revision not in self.deployed:
            raise RevisionUnknown(revision)
        if self.behave is not None:
            outcome = await self.behave(revision, items)
            if outcome is not None:
                return outcome
        return [self.answer(item) for item in items]

    def answer(self, item):
        if item.startswith(b"bad"):
            return Answer(422, code="bad_image", message="the image cannot be decoded")
        if item.startswith(b"huge"):
            return Answer(413, code="too_many_pixels", message="the image has too many pixels")
        return Answer(200, json.dumps(PREDICTION).encode(), model_version="digits:v1")


def revision(number=1, system="digits"):
    return Revision(system, number, number, "f" * 64, "d" * 64, 1, 1)


def system(name="digits", *, weights=None, token=1, serve=None, wanted="up", **kwargs):
    return System(
        name=name,
        stable=revision(system=name),
        route=Route(name, weights or {f"{name}-r1": 100.0}, token),
        serve=serve or {},
        classes=("3", "8"),
        wanted=wanted,
        **kwargs,
    )


class Door:
    """The gateway under test, with one key of each kind."""

    def __init__(self, policy=Policy(), observers=()):  # noqa: B008  frozen
        numbers = itertools.count()
        self.replicas = Replicas()
        self.width = 1
        self.seen = []
        self.gateway = Gateway(
            call=self.replicas,
            width=lambda revision: self.width,
            ready=lambda revision: self.width if revision in self.replicas.deployed else 0,
            clock=SystemClock(),
            new_id=lambda: f"id-{next(numbers)}",
            policy=policy,
            observers=(self.seen.append, *observers),
        )
        made = {
            "predict": new_key(scopes=("predict",), systems=("digits",), now=0.0),
            "operate": new_key(scopes=("operate",), systems=("*",), now=0.0),
            "other": new_key(scopes=("predict",), systems=("faces",), now=0.0),
            "expired": new_key(scopes=("admin",), systems=("*",), now=0.0, expires_at=1.0),
        }
        self.tokens = {name: key.token for name, key in made.items()}
        self.entries = [Entry(key.put.key, key.put.value, 1) for key in made.values()]
        self.serve(system())

    def serve(self, *systems):
        self.gateway.world = renew(self.gateway.world, systems, self.entries)

    def auth(self, who="predict"):
        return {"authorization": f"Bearer {self.tokens[who]}"}

    def client(self, **kwargs):
        transport = httpx.ASGITransport(self.gateway, raise_app_exceptions=True)
        return httpx.AsyncClient(transport=transport, base_url="http://gateway", **kwargs)

    def ask(
        self, method="POST", path="/digits/predict", *, who="predict", headers=None, content=b"image", kind="image/png"
    ):
        """One request in memory; `who=None` sends no key."""

        async def go():
            sent = {**(self.auth(who) if who else {}), **({"content-type": kind} if kind else {}), **(headers or {})}
            async with self.client() as client:
                return await client.request(method, path, headers=sent, content=content)

        return asyncio.run(go())


@contextlib.contextmanager
def served(door, limits=HttpLimits()):  # noqa: B008  frozen
    """The gateway on a real loopback socket, in a thread of its own; yields the port."""
    bound = bind("127.0.0.1", 0)
    port = bound.getsockname()[1]
    server = HttpServer(door.gateway, limits=limits, new_id=lambda: "refused-early", shed=door.gateway.shed)
    door.server = server
    thread = threading.Thread(target=lambda: uvloop.run(server.serve(bound)), daemon=True)
    thread.start()
    until = time.monotonic() + 10
    while not server.is_started and time.monotonic() < until:
        time.sleep(0.005)
    assert server.is_started
    try:
        yield port
    finally:
        server.stop()
        thread.join(timeout=60)
        assert not thread.is_alive()


def exchange_raw(port, *pieces, timeout_s=40.0):
    """Send bytes as they are and read until the server closes; the bytes that came back."""
    return exchange_long(port, pieces, timeout_s=timeout_s)


def exchange_long(port, pieces, *, timeout_s=40.0):
    """The same for pieces that may never end: they are made one by one, for as long as the server takes them."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as connection:
        received = b""
        waiting = select.poll()
        waiting.register(connection, select.POLLIN)
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                connection.sendall(piece)
                # What is answered meanwhile is read meanwhile: a reset would take it along.
                while waiting.poll(0):
                    chunk = connection.recv(65536)
                    received += chunk
                    if not chunk:
                        break
        with contextlib.suppress(ConnectionError):
            while chunk := connection.recv(65536):
                received += chunk
    return received


def head(door, *, path="/digits/predict", method="POST", who="predict", host="gateway", **headers):
    lines = [f"{method} {path} HTTP/1.1"]
    if host is not None:
        lines.append(f"Host: {host}")
    if who:
        lines.append(f"Authorization: Bearer {door.tokens[who]}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n"


def predict_head(door, **headers):
    return head(door, **{"Content_Type": "image/png", **headers})


def statuses(received):
    return [int(line.split()[1]) for line in received.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]


def works(door, port):
    response = httpx.post(
        f"http://127.0.0.1:{port}/digits/predict",
        headers={**door.auth(), "content-type": "image/png"},
        content=b"image",
        timeout=30,
    )
    return response.status_code == 200


def await_true(condition, timeout_s=30.0):
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def rss_bytes():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * resource.getpagesize()
