"""Holds the gateway's listening socket too, so that clients wait for a gateway that died instead of being refused.

The kernel takes connections for a listening socket as long as any process has it, and a new gateway that is given the
same one finds those that came meanwhile in its queue. The keeper has it beside the gateway, and never accepts. They
talk over a unix socket in Linux's abstract namespace, and ask the kernel who the other one is.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from platformops.clock import Clock
from platformops.security.peers import is_same_user

Address = tuple[str, int]
OFFER, TAKE, RELEASE = "offer", "take", "release"
DONE, NONE = b"1", b"0"
FORGET_S = 30.0
"""A socket that no gateway has offered for so long is closed: nobody comes back for those that wait at it."""
TALK_S, TAKE_TRIES = 1.0, 8
LOOK_S = 0.5
MOST_BYTES = 512
BACKLOG = 8


class Doors:
    """The keeper's side: sockets by address. While it is entered, a thread answers gateways of this home."""

    def __init__(self, root: Path, clock: Clock) -> None:
        self._name, self._clock = _name(root), clock
        self._held: dict[Address, tuple[socket.socket, float]] = {}
        """With when it was offered last."""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="doors")

    def __enter__(self) -> Doors:
        if sys.platform == "linux":
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
            while not self._has_name(listening):  # an earlier keeper is about to end
                if self._ended.wait(LOOK_S):
                    return
            listening.listen(BACKLOG)
            listening.settimeout(LOOK_S)
            while not self._ended.is_set():
                with suppress(Exception):  # whatever one gateway says, the next one is answered
                    connection, _ = listening.accept()
                    with connection:
                        connection.settimeout(TALK_S)
                        self._answer(connection)
                self._forget(before=self._clock.monotonic() - FORGET_S)
        self._forget(before=float("inf"))

    def _has_name(self, listening: socket.socket) -> bool:
        try:
            listening.bind(self._name)
        except OSError:
            return False
        return True

    def _answer(self, connection: socket.socket) -> None:
        if not is_same_user(connection):
            return
        said, numbers, _, _ = socket.recv_fds(connection, MOST_BYTES, 1, socket.MSG_CMSG_CLOEXEC)
        given = [socket.socket(fileno=number) for number in numbers]
        try:
            told = json.loads(said)
            verb, address = told["verb"], (str(told["host"]), int(told["port"]))
        except (ValueError, KeyError, TypeError):
            _close(given)
            return
        held = self._held.get(address)
        if verb == OFFER and len(given) == 1 and is_listening_at(given[0], address):
            self._held[address] = given.pop(), self._clock.monotonic()
            _close([held[0]] if held else [])
            connection.send(DONE)
        elif verb == TAKE and held is not None:
            socket.send_fds(connection, [DONE], [held[0].fileno()])
        elif verb == RELEASE and held is not None:
            _close([self._held.pop(address)[0]])
            connection.send(DONE)
        else:
            connection.send(NONE)
        _close(given)

    def _forget(self, *, before: float) -> None:
        for address, (held, offered_at) in list(self._held.items()):
            if offered_at < before:
                del self._held[address]
                held.close()


def offer(root: Path, bound: socket.socket) -> bool:
    """The keeper of this home has `bound` too afterwards; False where none answers. To be repeated: keepers are
    replaced, and one that hears nothing for FORGET_S lets go."""
    with suppress(OSError), _talking(root) as connection:
        socket.send_fds(connection, [_request(OFFER, _address(bound))], [bound.fileno()])
        return connection.recv(1) == DONE
    return False


def take(root: Path, address: Address) -> socket.socket | None:
    """The listening socket that the keeper of this home has for `address`, with all that waits at it.

    A keeper that is slow is asked again: a second socket beside the one that it has would get half of the clients, and
    the other half would wait for nobody.
    """
    for _ in range(TAKE_TRIES):
        try:
            return _taken(root, address)
        except TimeoutError:
            continue
        except OSError:
            return None
    return None


def _taken(root: Path, address: Address) -> socket.socket | None:
    with _talking(root) as connection:
        connection.send(_request(TAKE, address))
        said, numbers, _, _ = socket.recv_fds(connection, 1, 1, socket.MSG_CMSG_CLOEXEC)
        taken = [socket.socket(fileno=number) for number in numbers]
        if said == DONE and len(taken) == 1 and is_listening_at(taken[0], address):
            taken[0].setblocking(False)
            return taken[0]
        _close(taken)
    return None


def is_held(root: Path, address: Address) -> bool:
    """Whether `take` would give one now."""
    taken = take(root, address)
    if taken is not None:
        taken.close()
    return taken is not None


def release(root: Path, bound: socket.socket) -> None:
    """The keeper lets go of it: the gateway ends, and nobody is to wait for it."""
    with suppress(OSError), _talking(root) as connection:
        connection.send(_request(RELEASE, _address(bound)))
        connection.recv(1)


def is_listening_at(given: socket.socket, address: Address) -> bool:
    with suppress(OSError):
        is_tcp = given.family in (socket.AF_INET, socket.AF_INET6) and given.type == socket.SOCK_STREAM
        listens = given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
        return is_tcp and listens and _address(given) == address
    return False


@contextmanager
def _talking(root: Path) -> Iterator[socket.socket]:
    """A connection to the keeper of this home. Raises OSError where there is none, or it is another user's."""
    if sys.platform != "linux":
        raise OSError("there are no abstract sockets here")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(TALK_S)
        connection.connect(_name(root))
        if not is_same_user(connection):
            raise PermissionError("another user answers for this home's keeper")
        yield connection


def _request(verb: str, address: Address) -> bytes:
    return json.dumps({"verb": verb, "host": address[0], "port": address[1]}).encode()


def _address(bound: socket.socket) -> Address:
    host, port = bound.getsockname()[:2]
    return str(host), int(port)


def _name(root: Path) -> str:
    return f"\0platformops-doors-{os.getuid()}-{hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:32]}"


def _close(sockets: list[socket.socket]) -> None:
    for one in sockets:
        one.close()
