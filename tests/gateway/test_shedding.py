"""What the head of a request decides before a task is made of it, and that it decides it once."""

import asyncio
import socket

import httpx
import pytest

from platformops.gateway.protocol import HttpLimits
from platformops.gateway.request import HEAD
from tests.gateway.door import await_true, exchange_raw, served, statuses, system, works


def scope_of(door, method="POST", path=b"/digits/predict", *, who="predict", length=b"5"):
    headers = [(b"host", b"gateway"), (b"content-type", b"image/png")]
    headers += [(b"authorization", door.auth(who)["authorization"].encode())] if who else []
    headers += [(b"content-length", length)] if length else []
    return {
        "type": "http", "method": method, "path": path.decode(), "raw_path": path, "headers": headers,
        "client": ("127.0.0.1", 1), "extensions": {}, "query_string": b"",
    }  # fmt: skip


def judged(door, *scopes):
    async def go():
        return [door.gateway.shed(scope) for scope in scopes]

    return asyncio.run(go())


def statuses_of(shed):
    return [refused[0].status if refused else None for refused in shed]


def test_of_heads_that_come_in_one_turn_of_the_loop_as_many_are_let_in_as_the_queue_holds(door):
    door.serve(system(serve={"max_queue": 3}))
    shed = judged(door, *[scope_of(door) for _ in range(10)])
    assert statuses_of(shed) == [None] * 3 + [503] * 7
    assert shed[-1][0].headers[b"retry-after"] == b"1"
    assert [exchange.code for exchange in door.seen] == ["overloaded"] * 7, "each is in the log and in the metrics"
    assert {exchange.system for exchange in door.seen} == {"digits"}


def test_who_is_carried_out_gives_its_place_to_the_next(door):
    door.serve(system(serve={"max_queue": 1}))

    async def go():
        first, second = scope_of(door), scope_of(door)
        outcomes = [door.gateway.shed(first), door.gateway.shed(second)]
        await carried_out(door, first)
        return [*outcomes, door.gateway.shed(scope_of(door))]

    assert statuses_of(asyncio.run(go())) == [None, 503, None]


async def carried_out(door, scope):
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"image", "more_body": False}

    async def send(message):
        sent.append(message)

    await door.gateway(scope, receive, send)
    return sent[0]["status"]


def test_a_request_that_was_judged_is_not_judged_again(door):
    door.serve(system(serve={"max_requests_per_s": 1.0}))

    async def go():
        scope = scope_of(door)
        assert door.gateway.shed(scope) is None
        return await carried_out(door, scope), scope

    status, scope = asyncio.run(go())
    assert status == 200, "its one request a second is spent once"
    assert door.seen == [scope["extensions"][HEAD].exchange]


@pytest.mark.parametrize(("changed", "status"), [
    ({"who": None}, 401),
    ({"who": "other"}, 403),
    ({"who": None, "path": b"/nothing/here"}, 401),
    ({"path": b"/nothing/here"}, 404),
    ({"path": b"/faces/predict", "who": "operate"}, 404),
    ({"method": "PUT"}, 405),
    ({"length": b"9" * 12}, 413),
])  # fmt: skip
def test_whatever_a_head_says_is_refused_as_a_whole_request_would_be(door, changed, status):
    (refused,) = judged(door, scope_of(door, **changed))
    assert refused is not None
    reply, request_id = refused
    assert (reply.status, request_id.encode() in reply.body) == (status, True)


def test_a_request_without_a_body_keeps_its_connection_and_so_its_turn(door):
    scope = scope_of(door, "GET", b"/nothing/here", length=b"")
    assert judged(door, scope) == [None]
    assert door.seen == []
    assert asyncio.run(carried_out(door, scope)) == 404


def test_a_fault_of_ours_is_an_answer_too(door):
    door.gateway.world = None
    (refused,) = judged(door, scope_of(door))
    assert refused[0].status == 500
    assert door.seen[0].fault == "AttributeError"


def test_refusals_of_a_client_in_memory_are_the_same(door):
    door.serve(system(serve={"max_body_bytes": 1024}))
    (refused,) = judged(door, scope_of(door, length=b"2000"))
    response: httpx.Response = door.ask(content=b"x" * 2000)
    assert (response.status_code, response.json()["error"]["code"]) == (refused[0].status, refused[0].code)


def test_a_target_without_a_path_is_malformed_and_no_fault_of_ours(door):
    with served(door) as port:
        sent = b"POST http://x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx"
        assert statuses(exchange_raw(port, sent)) == [400]
    assert door.seen == []


def test_connections_that_were_refused_make_room_for_newcomers(door):
    with served(door, HttpLimits(max_connections=4, linger_s=30.0)) as port:
        refused = [socket.create_connection(("127.0.0.1", port)) for _ in range(4)]
        for connection in refused:  # without a key, and with a body of which one byte never comes
            connection.sendall(b"POST /digits/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nx")
            assert b" 401 " in connection.recv(65536)
        assert works(door, port)
        for connection in refused:
            connection.close()


def test_a_refused_connection_whose_body_has_come_is_closed_at_once(door):
    with served(door, HttpLimits(linger_s=600.0)) as port, socket.create_connection(("127.0.0.1", port)) as connection:
        connection.settimeout(10.0)
        connection.sendall(b"POST /digits/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx")
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
        assert b" 401 " in received
        await_true(lambda: door.server.num_connections == 0)
