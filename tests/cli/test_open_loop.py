"""Open-loop load says of every request what became of it, whatever the server does with its connections."""

import asyncio
import math

import pytest

from platformops.cli.open_loop import CONNECTIONS, run
from platformops.on_ray.cluster import free_port

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
BUSY = b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"
REQUEST = b"POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n"


class Server(asyncio.Protocol):
    """Answers as it was told; `of` holds what all of its connections did."""

    def __init__(self, of, answer):
        self.of, self.answer = of, answer

    def connection_made(self, transport):
        self.transport = transport
        self.of["connections"] = self.of.get("connections", 0) + 1

    def data_received(self, data):
        self.of["requests"] = self.of.get("requests", 0) + 1
        self.answer(self.transport, self.of["requests"])


def loaded(answer, due_s, **kwargs):
    """The figures of the load, and what the server saw."""
    seen = {}

    async def go():
        server = await asyncio.get_running_loop().create_server(
            lambda: Server(seen, answer), "127.0.0.1", 0, backlog=512
        )
        async with server:
            return await run(server.sockets[0].getsockname()[1], REQUEST, due_s, **kwargs)

    return asyncio.run(asyncio.wait_for(go(), 60)), seen


def ok(transport, _):
    transport.write(OK)


def evenly(count, seconds=0.2):
    return [seconds * (i + 1) / count for i in range(count)]


def test_all_are_answered_by_no_more_connections_than_are_needed():
    figures, seen = loaded(ok, evenly(100))
    assert (figures["requests"], figures["errors"]) == (100, 0)
    assert figures["rps"] == pytest.approx(500)
    assert 0 < figures["p50_s"] <= figures["p99_s"] < 5
    assert seen["connections"] < 100


def test_connections_that_the_server_has_closed_meanwhile_lose_nothing():
    def once(transport, _):
        transport.write(OK)
        asyncio.get_running_loop().call_later(0.02, transport.close)

    figures, seen = loaded(once, [0.05, 0.05, 0.05, 1.0, 1.0, 1.0])
    assert (figures["errors"], seen["connections"]) == (0, 6)


def test_refusals_and_answers_that_never_come_are_errors_and_the_latter_slower_than_all():
    def sometimes(transport, number):
        if number % 10 == 0:
            transport.abort()
        else:
            transport.write(BUSY if number % 5 == 0 else OK)

    figures, _ = loaded(sometimes, evenly(100), grace_s=0.5)
    assert figures["errors"] == 20
    assert math.isinf(figures["p99_s"])
    assert figures["rps"] == pytest.approx(450)


def test_a_burst_waits_for_a_bounded_number_of_connections_and_the_waiting_counts():
    def later(transport, _):
        asyncio.get_running_loop().call_later(0.1, transport.write, OK)

    figures, seen = loaded(later, [0.001] * (2 * CONNECTIONS))
    assert (figures["errors"], seen["connections"]) == (0, CONNECTIONS)
    assert figures["p99_s"] > 0.2


def test_what_warms_up_counts_only_where_it_fails():
    def slow_at_first(transport, number):
        asyncio.get_running_loop().call_later(1.0 if number <= 20 else 0.0, transport.write, OK)

    figures, _ = loaded(slow_at_first, evenly(100), warm_up=20)
    assert (figures["requests"], figures["errors"]) == (80, 0)
    assert figures["p99_s"] < 1.0
    assert figures["rps"] == pytest.approx(500)
    failed, _ = loaded(lambda transport, number: transport.write(BUSY if number == 1 else OK), evenly(100), warm_up=20)
    assert failed["errors"] == 1


def test_where_nobody_listens_all_are_lost_and_the_load_ends():
    figures = asyncio.run(asyncio.wait_for(run(free_port(), REQUEST, evenly(20), grace_s=0.2), 60))
    assert (figures["errors"], figures["rps"]) == (20, 0.0)
