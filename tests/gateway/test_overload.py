"""More than the gateway can take: exact bounds, refusals while others wait, slow clients let go, bounded memory."""

import asyncio
import contextlib
import itertools
import json
import re
import resource
import socket
import threading

import pytest

from platformops.gateway.app import Policy
from platformops.gateway.protocol import HttpLimits
from tests.gateway.door import (
    Door,
    await_true,
    exchange_long,
    exchange_raw,
    predict_head,
    rss_bytes,
    served,
    statuses,
    system,
    works,
)

pytestmark = pytest.mark.real

IMAGE = b"image"
SPARE_FILES = 500
"""Open files of a test process beside the connections that a test makes."""
INSIDE = re.compile(rb"Traceback|0x[0-9a-f]|site-packages|\.py\b|/(?:tmp|root|home|usr|work|proc)\b|127\.0\.0\.1|po_")
BOUND_BYTES = 64 * 1024 * 1024


def files_for(num_connections):
    """Room for both ends of each connection, as far as the hard limit goes; skips the test where it does not."""
    needed = 2 * num_connections + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"{num_connections} connections need {needed} open files, and this process may have {hard}")
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


PATIENT = HttpLimits(head_timeout_s=60.0, body_timeout_s=60.0)
"""Where it is not the clients' slowness that is tested."""


class Held:
    """Replicas that answer once they are let go."""

    def __init__(self, door):
        self.let_go = threading.Event()
        door.replicas.behave = self

    async def __call__(self, revision, items):
        while not self.let_go.is_set():
            await asyncio.sleep(0.01)


def request(door, body=IMAGE, **headers):
    return predict_head(door, Content_Length=len(body), **headers) + b"\r\n" + body


async def answered(port, sent, opening=None):
    """Everything that comes back for one connection; `opening` bounds how many are being opened at a time."""
    async with opening or contextlib.nullcontext():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = b""
    with contextlib.suppress(ConnectionError):
        writer.write(sent)
        while chunk := await reader.read(65536):
            received += chunk
    writer.close()
    return received


def users(door):
    return sum(lane.users for lane in door.gateway._predicting.lanes.values())


def queued(door):
    return sum(lane.queued for lane in door.gateway._predicting.lanes.values())


def test_of_two_thousand_at_once_as_many_are_taken_as_the_queue_holds_and_the_rest_is_refused_meanwhile(door):
    files_for(2000)
    door.serve(system(serve={"max_queue": 50, "batch": 8, "timeout_s": 60.0}))
    held, refused, taken = Held(door), [], []

    async def one(port, sent):
        received = await answered(port, sent)
        (taken if held.let_go.is_set() else refused).append(received)
        if len(refused) == 2000 - 51:
            held.let_go.set()

    async def all_of_them(port):
        await asyncio.gather(*[one(port, request(door, Connection="close")) for _ in range(2000)])

    with served(door, PATIENT) as port:
        asyncio.run(asyncio.wait_for(all_of_them(port), 300))
    assert [statuses(r) for r in taken] == [[200]] * 51, "one on its way and fifty that wait"
    assert {(statuses(r)[0], b"\r\nretry-after: 1\r\n" in r, b'"overloaded"' in r) for r in refused} == {
        (503, True, True)
    }
    assert not [r for r in refused if INSIDE.search(r)]
    assert sum(len(items) for _, items in door.replicas.calls) == 51
    assert (queued(door), door.gateway._predicting._buffered_bytes) == (0, 0)


def test_a_key_above_its_rate_gets_429_and_when_to_come_back(door):
    door.serve(system(serve={"max_requests_per_s": 1.0}))

    async def all_of_them(port):
        return await asyncio.gather(*[answered(port, request(door, Connection="close")) for _ in range(50)])

    with served(door) as port:
        received = asyncio.run(all_of_them(port))
    over = [r for r in received if statuses(r) == [429]]
    assert len(over) >= 40
    assert all(b"\r\nretry-after: " in r for r in over)


SLOW = HttpLimits(head_timeout_s=2.0, body_timeout_s=3.0, idle_timeout_s=2, linger_s=0.5)


def test_five_thousand_slow_connections_are_all_closed_and_harm_nobody(door):
    files_for(5000)
    kinds = [
        b"",
        b"POST /digits/predict HTTP/1.1\r\nHost: a\r\nX-",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
        predict_head(door, Content_Length=100) + b"\r\nhalf",
    ]

    async def slow(port, number, opening):
        with contextlib.suppress(ConnectionError):
            await answered(port, kinds[number % len(kinds)], opening)

    def good(port, over):
        """One client that asks again and again."""
        seen = []
        while not over.wait(0.02):
            seen.append(statuses(exchange_raw(port, request(door, Connection="close"), timeout_s=60.0)))
        return seen

    async def all_of_them(port):
        over = threading.Event()
        working = asyncio.create_task(asyncio.to_thread(good, port, over))
        opening = asyncio.Semaphore(200)  # more at once, and the kernel drops what does not fit into its queue
        await asyncio.gather(*[slow(port, number, opening) for number in range(5000)])
        over.set()
        return await working

    with served(door, SLOW) as port:
        seen = asyncio.run(asyncio.wait_for(all_of_them(port), 300))
        assert seen
        assert [s for s in seen if s != [200]] == []
        await_true(lambda: door.server.num_connections == 0)
        assert works(door, port)
    assert (queued(door), door.gateway._predicting._buffered_bytes) == (0, 0)


def test_one_client_has_no_more_connections_than_the_cap_and_a_silent_one_gives_way(door):
    with served(door, HttpLimits(max_connections_per_client=20)) as port, contextlib.ExitStack() as closing:
        for _ in range(60):
            closing.enter_context(socket.create_connection(("127.0.0.1", port)))
        await_true(lambda: door.server.num_connections == 20)
        assert works(door, port)


def endless(size):
    """A chunked body that ends when nobody reads it any more."""
    while True:
        yield b"%x\r\n" % size + b"x" * size + b"\r\n"


def gigabyte():
    for _ in range(1024**3 // 65536):
        yield b"x" * 65536


LARGE = {
    "a gigabyte as announced": ({"Content_Length": 1024**3}, gigabyte, [413]),
    "a gigabyte announced as five bytes": ({"Content_Length": 5}, gigabyte, [200, 400]),
    "five bytes announced as ten": ({"Content_Length": 10}, lambda: [IMAGE], [408]),
    "a length beyond counting": ({"Content_Length": 10**18}, lambda: [IMAGE], [413]),
    "chunks without end": ({"Transfer_Encoding": "chunked"}, lambda: endless(65536), [413]),
    "one chunk without end": (
        {"Transfer_Encoding": "chunked"},
        lambda: [b"fffffffff\r\n", *[b"x" * 65536] * 1000],
        [413],
    ),
    "a chunk extension without end": (
        {"Transfer_Encoding": "chunked"},
        lambda: [b"5;", *[b"x" * 65536] * 1000],
        [431],
    ),
    "trailers without end": (
        {"Transfer_Encoding": "chunked"},
        lambda: [b"5\r\nimage\r\n0\r\n", *[b"X-Trailer: x\r\n" * 4000] * 400],
        [431],
    ),
    "three megabytes in chunks of one byte": (
        {"Transfer_Encoding": "chunked", "Connection": "close"},
        lambda: [*[b"1\r\nx\r\n" * 10_000] * 50, b"0\r\n\r\n"],
        [200],
    ),
}


@pytest.mark.parametrize("name", LARGE)
def test_a_body_that_is_too_large_lies_or_never_ends_costs_bounded_memory_and_gets_its_answer(door, name):
    headers, pieces, expected = LARGE[name]
    limits = HttpLimits(body_timeout_s=2.0) if name.startswith("five") else PATIENT
    door.serve(system(serve={"timeout_s": 60.0}))
    with served(door, limits) as port:
        assert works(door, port)
        before = rss_bytes()
        received = exchange_long(port, itertools.chain([predict_head(door, **headers) + b"\r\n"], pieces()))
        assert rss_bytes() - before < BOUND_BYTES
        assert set(statuses(received)) <= set(expected)
        assert statuses(received)
        assert not INSIDE.search(received)
        assert works(door, port)
    assert door.gateway._predicting._buffered_bytes == 0


def test_bodies_of_many_clients_together_are_bounded_too():
    door = Door(Policy(max_buffered_bytes=4 * 1024 * 1024))
    held = Held(door)
    body = b"x" * 1024 * 1024

    async def all_of_them(port):
        asked = [asyncio.create_task(answered(port, request(door, body, Connection="close"))) for _ in range(20)]
        for number, finished in enumerate(asyncio.as_completed(asked), start=1):
            await finished
            if number == 16:
                held.let_go.set()
        return [task.result() for task in asked]

    with served(door, PATIENT) as port:
        received = asyncio.run(asyncio.wait_for(all_of_them(port), 300))
    assert sorted(statuses(r)[0] for r in received) == [200] * 4 + [503] * 16
    assert door.gateway._predicting._buffered_bytes == 0


@pytest.mark.parametrize("stage", ["on its way", "in the queue", "in its body"])
def test_a_client_that_hangs_up_gives_back_its_place_although_the_replica_is_stuck(door, stage):
    door.serve(system(serve={"max_queue": 1, "batch": 1, "timeout_s": 60.0}))
    held = Held(door)

    def opened(sent):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.sendall(sent)
        return connection

    with served(door) as port, contextlib.ExitStack() as closing:
        if stage != "on its way":
            closing.enter_context(opened(request(door, b"first")))
            await_true(lambda: len(door.replicas.calls) == 1)
        half = predict_head(door, Content_Length=1000) + b"\r\nhalf"
        gone = opened(half if stage == "in its body" else request(door, b"gone"))
        await_true(lambda: users(door) == (1 if stage == "on its way" else 2))
        if stage == "in the queue":
            await_true(lambda: queued(door) == 1)
        gone.close()
        await_true(lambda: any(e.code == "client_gone" for e in door.seen))
        held.let_go.set()
        assert works(door, port)
        calls = [items for _, items in door.replicas.calls]
        assert ([b"gone"] in calls) == (stage == "on its way")


REFUSED_EVERYWHERE = [
    (b"", 401), (b"x" * 40_000, 431), (b"Host: b\r\n", 400), (b"Transfer-Encoding: x\r\n", 400), (b"Expect: x\r\n", 401)
]  # fmt: skip


@pytest.mark.parametrize(("extra", "status"), REFUSED_EVERYWHERE, ids=lambda v: str(v)[:20])
def test_a_refusal_says_nothing_of_the_inside(door, extra, status):
    extra = b"X: " + extra + b"\r\n" if extra.startswith(b"xx") else extra
    with served(door) as port:
        received = exchange_raw(
            port, b"GET /digits/info HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + extra + b"\r\n"
        )
    assert statuses(received) == [status]
    assert not INSIDE.search(received)
    error = json.loads(received.split(b"\r\n\r\n", 1)[1])["error"]
    assert set(error) == {"code", "message", "request_id"}
