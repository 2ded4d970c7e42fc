"""What the HTTP server refuses before there is a request, on a real socket: sizes, slowness, grammar, too many."""

import asyncio
import contextlib
import json
import socket

import httpx
import pytest

from platformops.gateway.protocol import HttpLimits
from platformops.gateway.server import bind
from tests.gateway.door import Door, await_true, exchange_raw, head, served, statuses, works

pytestmark = pytest.mark.real

QUICK = HttpLimits(head_timeout_s=0.5, body_timeout_s=1.0, idle_timeout_s=1, linger_s=0.5)


@pytest.fixture(scope="module")
def standing():
    """One gateway for requests that leave nothing behind: door and port."""
    door = Door()
    with served(door) as port:
        yield door, port


def test_a_request_over_a_real_socket_is_answered_without_versions_in_the_headers(door, port):
    response = httpx.get(f"http://127.0.0.1:{port}/healthz")
    assert response.json() == {"status": "ok"}
    assert "server" not in response.headers
    assert works(door, port)


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-Big: " + b"x" * 200_000 + b"\r\n\r\n", 431),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 5_000 + b"\r\n", 431),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 101 + b"\r\n", 431),
        (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + b"k" * 1_000_000 + b"\r\n\r\n", 431),
    ],
)
def test_a_head_that_is_too_large_is_refused(standing, request_head, status):
    door, port = standing
    received = exchange_raw(port, request_head)
    assert statuses(received) == [status]
    assert json.loads(received.split(b"\r\n\r\n")[1])["error"]["request_id"]
    assert works(door, port)


SMUGGLING = {
    "length and chunked": b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
    "two lengths": b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nimageX",
    "negative length": b"Content-Length: -5\r\n\r\nimage",
    "signed length": b"Content-Length: +5\r\n\r\nimage",
    "length of words": b"Content-Length: five\r\n\r\nimage",
    "huge length": b"Content-Length: 99999999999999999999999\r\n\r\nimage",
    "xchunked": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "space before colon": b"Content-Length : 5\r\n\r\nimage",
    "folded header": b"X-A: b\r\n Content-Length: 5\r\n\r\nimage",
    "bare line feed": b"X-A: b\nContent-Length: 5\r\n\r\nimage",
    "bad chunk size": b"Transfer-Encoding: chunked\r\n\r\nzz\r\nimage\r\n0\r\n\r\n",
    "chunk longer than said": b"Transfer-Encoding: chunked\r\n\r\n3\r\nimage\r\n0\r\n\r\n",
    "line feed in chunk extension": b"Transfer-Encoding: chunked\r\n\r\n5;a\nb\r\nimage\r\n0\r\n\r\n",
    "null byte": b"X-A: b\0c\r\nContent-Length: 5\r\n\r\nimage",
    "coded and chunked": b"Transfer-Encoding: gzip, chunked\r\n\r\n5\r\nimage\r\n0\r\n\r\n",
    "chunked, chunked": b"Transfer-Encoding: chunked, chunked\r\n\r\n5\r\nimage\r\n0\r\n\r\n",
    "identity": b"Transfer-Encoding: identity\r\n\r\nimage",
    "chunked behind a control character": b"Transfer-Encoding: \x0bchunked\r\n\r\n5\r\nimage\r\n0\r\n\r\n",
    "chunked with a parameter": b"Transfer-Encoding: chunked;q=1\r\n\r\n5\r\nimage\r\n0\r\n\r\n",
    "empty coding and length": b"Transfer-Encoding:\r\nContent-Length: 5\r\n\r\nimage",
    "list of lengths": b"Content-Length: 5, 5\r\n\r\nimage",
    "hexadecimal length": b"Content-Length: 0x5\r\n\r\nimage",
    "length in other digits": "Content-Length: ٥\r\n\r\nimage".encode(),
    "empty length": b"Content-Length:\r\n\r\nimage",
    "bare carriage return": b"X-A: b\rContent-Length: 5\r\n\r\nimage",
    "negative chunk": b"Transfer-Encoding: chunked\r\n\r\n-5\r\nimage\r\n0\r\n\r\n",
    "space after chunk size": b"Transfer-Encoding: chunked\r\n\r\n5 \r\nimage\r\n0\r\n\r\n",
    "huge chunk": b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nimage\r\n0\r\n\r\n",
    "carriage return in chunk extension": b"Transfer-Encoding: chunked\r\n\r\n5;a\rb\r\nimage\r\n0\r\n\r\n",
    "line feeds only": b"Transfer-Encoding: chunked\r\n\r\n5\nimage\n0\n\n",
    "header without a colon": b"X-A\r\nContent-Length: 5\r\n\r\nimage",
    "header without a name": b": b\r\nContent-Length: 5\r\n\r\nimage",
}


@pytest.mark.parametrize("shape", SMUGGLING.values(), ids=SMUGGLING)
def test_a_smuggling_shape_gets_one_400_and_the_connection_closes(standing, shape):
    door, port = standing
    smuggled = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"
    received = exchange_raw(port, head(door, Content_Type="image/png") + shape + smuggled)
    assert statuses(received) == [400]
    assert works(door, port)


def test_a_chunked_body_from_before_http_1_1_is_a_smuggling_shape_too(door, port):
    chunked = head(door, Content_Type="image/png", Transfer_Encoding="chunked") + b"\r\n5\r\nimage\r\n0\r\n\r\n"
    assert statuses(exchange_raw(port, chunked.replace(b"HTTP/1.1", b"HTTP/1.0"))) == [400]


@pytest.mark.parametrize("version", [b"HTTP/0.9", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/3", b"HTTPS/1.1"])
def test_another_version_of_http_is_refused(standing, version):
    _, port = standing
    assert statuses(exchange_raw(port, b"GET /healthz " + version + b"\r\nHost: a\r\n\r\n")) == [400]


def test_a_request_sent_before_the_last_was_answered_is_dropped_with_the_connection(door, port):
    one = head(door, Content_Type="image/png", Content_Length=5) + b"\r\nimage"
    received = exchange_raw(port, one + one)
    assert statuses(received) == [200]
    assert b"connection: close" in received


def test_a_trailer_does_not_become_a_header(door, port):
    chunked = head(door, who=None, Content_Type="image/png", Transfer_Encoding="chunked")
    trailer = f"Authorization: Bearer {door.tokens['predict']}\r\n".encode()
    received = exchange_raw(port, chunked + b"\r\n5\r\nimage\r\n0\r\n" + trailer + b"\r\n")
    assert statuses(received) == [401]


@pytest.mark.parametrize(
    "lines",
    [
        b"POST /digits/predict HTTP/1.1\r\n",
        b"POST /digits/predict HTTP/1.1\r\nHost: a\r\nHost: b\r\n",
        b"POST /digits/predict HTTP/1.1\r\nHost: a/b\r\n",
        b"POST /digits/predict HTTP/1.1\r\nHost: user@a\r\n",
        b"POST http://user@a/digits/predict HTTP/1.1\r\nHost: \r\n",
        b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n",
        b"PRI * HTTP/2.0\r\n",
        b"POST * HTTP/1.1\r\nHost: a\r\n",
    ],
)
def test_a_head_without_one_plain_host_is_refused(standing, lines):
    _, port = standing
    received = exchange_raw(port, lines + b"Content-Length: 0\r\nConnection: close\r\n\r\n")
    assert statuses(received) in ([400], [401])
    assert (statuses(received) == [401]) == lines.startswith(b"POST *")


def test_dots_in_a_path_are_not_walked(door, port):
    for path in ("/./digits/predict", "/digits/../digits/predict", "/healthz/../metrics"):
        assert statuses(exchange_raw(port, head(door, path=path, who=None, Connection="close") + b"\r\n")) == [401]
        assert statuses(exchange_raw(port, head(door, path=path, who="operate", Connection="close") + b"\r\n")) == [404]


def test_a_websocket_upgrade_is_an_ordinary_wrong_method(door, port):
    upgrade = head(door, method="GET", Upgrade="websocket", Connection="Upgrade", Sec_WebSocket_Version=13)
    assert statuses(exchange_raw(port, upgrade + b"\r\n"))[:1] == [405]


def test_after_an_offered_upgrade_the_connection_closes_and_a_body_beside_it_is_refused_and_not_lost(door, port):
    offer = {"Upgrade": "h2c", "Connection": "Upgrade, HTTP2-Settings", "HTTP2_Settings": "AAMAAABk"}
    received = exchange_raw(port, head(door, method="GET", path="/digits/info", **offer) + b"\r\n")
    assert statuses(received) == [200]
    assert b"connection: close" in received
    received = exchange_raw(port, head(door, Content_Type="image/png", Content_Length=5, **offer) + b"\r\nimage")
    assert statuses(received) == [400]
    assert b"upgrade_with_body" in received
    assert door.replicas.calls == []


def test_a_body_said_to_be_too_large_is_refused_unread_and_the_answer_arrives_while_the_client_still_sends(door, port):
    received = exchange_raw(
        port,
        head(door, Content_Type="image/png", Content_Length=1_000_000_000) + b"\r\n",
        *[b"x" * 65536] * 40,
    )
    assert statuses(received) == [413]
    assert door.seen[-1].body_bytes == 0


def test_a_body_shorter_than_said_ends_with_408(door):
    with served(door, QUICK) as port:
        received = exchange_raw(port, head(door, Content_Type="image/png", Content_Length=10) + b"\r\nimage")
        assert statuses(received) == [408]
        assert door.replicas.calls == []


def test_slow_heads_idle_and_silent_connections_are_closed_while_others_are_served(door):
    with served(door, QUICK) as port:
        silent = socket.create_connection(("127.0.0.1", port))
        slow = socket.create_connection(("127.0.0.1", port))
        slow.sendall(b"POST /digits/predict HTTP/1.1\r\nHost: a\r\nX-")
        idle = socket.create_connection(("127.0.0.1", port))
        idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        for connection, expected in ((silent, []), (slow, [408]), (idle, [200])):
            connection.settimeout(40)
            received = b""
            while chunk := connection.recv(65536):
                received += chunk
            assert statuses(received) == expected
            connection.close()
        assert works(door, port)


def test_half_open_connections_beyond_the_cap_displace_one_another_and_service_goes_on(door):
    limits = HttpLimits(max_connections=50, max_connections_per_client=50)
    with served(door, limits) as port, contextlib.ExitStack() as slow:
        for _ in range(200):
            connection = slow.enter_context(socket.create_connection(("127.0.0.1", port)))
            connection.sendall(b"POST /digits/predict HTTP/1.1\r\nHost: a\r\n")
        assert works(door, port)


def test_a_client_that_hangs_up_while_it_waits_costs_no_call(door):
    async def wait(revision, items):
        if items == [b"first"]:
            while not door.let_go:
                await asyncio.sleep(0.01)

    door.let_go = False
    door.replicas.behave = wait
    with served(door) as port:
        first = socket.create_connection(("127.0.0.1", port))
        first.sendall(head(door, Content_Type="image/png", Content_Length=5) + b"\r\nfirst")
        gone = socket.create_connection(("127.0.0.1", port))
        gone.sendall(head(door, Content_Type="image/png", Content_Length=4) + b"\r\ngone")
        await_true(lambda: sum(lane.queued for lane in door.gateway._predicting.lanes.values()) == 1)
        gone.close()
        await_true(lambda: door.server.num_connections == 1)
        door.let_go = True
        assert works(door, port)
        assert [b"gone"] not in [items for _, items in door.replicas.calls]
        assert any(e.code == "client_gone" for e in door.seen)
        first.close()


def test_a_restarted_gateway_takes_the_same_port(door):
    with served(door) as port:
        second = bind("127.0.0.1", port)
        second.close()
