"""Every route of the running gateway, every method, every way to lack a key: refused alike, but for a written list."""

import asyncio
import json
from dataclasses import replace

import pytest

from platformops.gateway.routes import ROUTES
from platformops.security.keys import new_key
from platformops.store.records import Entry
from tests.gateway.door import Door, exchange_raw, served, system

OPEN_TO_ALL = {"/healthz", "/startupz", "/readyz"}
"""Probes. A route that is added to the gateway must be added here before anybody may use it without a key."""
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND")
SYSTEMS = ("digits", "nosuch")


@pytest.fixture
def door():
    door = Door()
    revoked = new_key(scopes=("admin",), systems=("*",), now=0.0)
    door.tokens["revoked"] = revoked.token
    door.entries.append(Entry(revoked.put.key, {**revoked.put.value, "revoked": True}, 1))
    door.serve(system())
    return door


def paths(route):
    return [route.path.replace("{system}", name) for name in (SYSTEMS if "{system}" in route.path else SYSTEMS[:1])]


def ways_to_lack_a_key(tokens):
    """Name -> (headers, query string)."""
    good = f"Bearer {tokens['operate']}".encode()
    return {
        "none": ([], b""),
        "empty": ([(b"authorization", b"")], b""),
        "only the scheme": ([(b"authorization", b"Bearer ")], b""),
        "wrong": ([(b"authorization", b"Bearer po_" + b"A" * 43)], b""),
        "half of a good one": ([(b"authorization", good[:-10])], b""),
        "more than a good one": ([(b"authorization", good + b"x")], b""),
        "expired": ([(b"authorization", f"Bearer {tokens['expired']}".encode())], b""),
        "revoked": ([(b"authorization", f"Bearer {tokens['revoked']}".encode())], b""),
        "in the query": ([], b"key=%b&access_token=%b" % (good[7:], good[7:])),
        "in another header": ([(b"x-api-key", good[7:]), (b"cookie", b"key=" + good[7:])], b""),
        "basic": ([(b"authorization", b"Basic " + good[7:])], b""),
        "without scheme": ([(b"authorization", good[7:])], b""),
        "twice": ([(b"authorization", good), (b"authorization", good)], b""),
        "two in one": ([(b"authorization", good + b", " + good)], b""),
        "a megabyte": ([(b"authorization", b"Bearer " + b"k" * 1_000_000)], b""),
        "not ASCII": ([(b"authorization", b"Bearer \xff\xfe\x00")], b""),
        "its stored hash": ([(b"authorization", b"Bearer " + b"0" * 64)], b""),
    }


async def knock(gateway, method, path, headers=(), query=b""):
    """Status, headers and body of one request in memory."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"image", "more_body": False}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": query,
        "headers": [(b"host", b"gateway"), (b"content-type", b"image/png"), *headers], "client": ("127.0.0.1", 1),
    }  # fmt: skip
    await gateway(scope, receive, send)
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


def without_id(body):
    document = json.loads(body)
    assert document["error"].pop("request_id")
    return json.dumps(document)


def test_every_handler_of_the_running_app_is_in_the_route_table(door):
    assert set(door.gateway._handlers) == {route.handler for route in ROUTES}


def test_what_is_open_is_the_written_list_and_it_names_no_system(door):
    assert {route.path for route in ROUTES if route.scope is None} == OPEN_TO_ALL
    for path in OPEN_TO_ALL:
        status, _, body = asyncio.run(knock(door.gateway, "GET", path))
        assert status == 200
        assert b"digits" not in body


def test_every_other_route_refuses_every_method_without_a_key_in_one_and_the_same_way(door):
    async def go():
        closed = [path for route in ROUTES for path in paths(route) if route.path not in OPEN_TO_ALL]
        for path in [*closed, "/", "/nosuch", "/digits", "/digits/predict/", "/-/routes", "/api/jobs/"]:
            for method in METHODS:
                for way, (headers, query) in ways_to_lack_a_key(door.tokens).items():
                    yield (method, path, way), await knock(door.gateway, method, path, headers, query)

    async def collected():
        return {asked: answer async for asked, answer in go()}

    answers = asyncio.run(collected())
    assert len(answers) > 2000
    wrong = {asked: status for asked, (status, _, _) in answers.items() if status != 401}
    assert wrong == {}
    assert len({without_id(body) for _, _, body in answers.values()}) == 1
    assert len({frozenset(headers) for _, headers, _ in answers.values()}) == 1
    assert {headers[b"www-authenticate"] for _, headers, _ in answers.values()} == {b"Bearer"}
    assert door.replicas.calls == []


def test_open_routes_take_no_other_method(door):
    for path in OPEN_TO_ALL:
        for method in METHODS:
            status, _, _ = asyncio.run(knock(door.gateway, method, path))
            assert status == (200 if method in ("GET", "HEAD") else 405)


def test_a_key_of_another_system_is_forbidden_alike_whether_the_system_exists_or_not(door):
    other = [(b"authorization", f"Bearer {door.tokens['other']}".encode())]
    systems = [path for route in ROUTES for path in paths(route) if "{system}" in route.path]
    answers = [asyncio.run(knock(door.gateway, method, path, other)) for path in systems for method in METHODS]
    assert {status for status, _, _ in answers} == {403}
    assert len({without_id(body) for _, _, body in answers}) == 1
    assert door.replicas.calls == []


def test_a_key_for_predictions_opens_nothing_that_is_for_operators(door):
    predict = [(b"authorization", f"Bearer {door.tokens['predict']}".encode())]
    for route in ROUTES:
        status, _, _ = asyncio.run(knock(door.gateway, route.method, paths(route)[0], predict))
        assert (status == 403) is (route.scope in ("operate", "admin"))
        assert status in (200, 403, 422), "a bare knock says no label"


@pytest.mark.real
@pytest.mark.parametrize("route", ROUTES, ids=lambda r: r.handler)
def test_an_upgrade_or_a_preflight_gets_no_further_than_any_request(door, route):
    path = paths(route)[0]
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAA\r\n"
    preflight = b"Origin: https://evil.example\r\nAccess-Control-Request-Method: POST\r\nConnection: close\r\n"
    with served(door) as port:
        for method, extra in ((b"GET", upgrade), (b"OPTIONS", preflight), (b"DELETE", preflight)):
            received = exchange_raw(port, b"%b %b HTTP/1.1\r\nHost: a\r\n%b\r\n" % (method, path.encode(), extra))
            refused = 405 if path in OPEN_TO_ALL else 401
            expected = 200 if path in OPEN_TO_ALL and method == b"GET" else refused
            assert received.startswith(b"HTTP/1.1 %d " % expected)
            assert b"access-control-" not in received.lower()


def test_no_probe_but_liveness_passes_before_systems_and_keys_are_read(door):
    async def probes():
        return {path: (await knock(door.gateway, "GET", path))[0] for path in OPEN_TO_ALL}

    door.gateway.world = replace(door.gateway.world, is_read=False)
    assert asyncio.run(probes()) == {"/healthz": 200, "/startupz": 503, "/readyz": 503}
    door.serve(system())
    assert asyncio.run(probes()) == {"/healthz": 200, "/startupz": 200, "/readyz": 200}


def test_a_gateway_that_is_about_to_stop_lives_and_is_not_ready(door):
    door.gateway.is_draining = True
    status, headers, body = asyncio.run(knock(door.gateway, "GET", "/readyz"))
    assert (status, headers[b"retry-after"]) == (503, b"1")
    assert json.loads(body)["error"]["code"] == "draining"
    assert asyncio.run(knock(door.gateway, "GET", "/healthz"))[0] == 200
    assert door.ask().status_code == 200


def test_a_system_is_ready_while_each_revision_with_traffic_has_a_replica(door):
    def ready():
        return door.ask("GET", "/digits/ready", kind=None, content=b"")

    assert ready().json() == {"status": "ready", "replicas": {"digits-r1": 1}}
    door.serve(system(weights={"digits-r1": 90.0, "digits-r2": 10.0, "digits-r3": 0.0}, token=2))
    assert ready().json()["replicas"] == {"digits-r1": 1, "digits-r2": 1}
    door.replicas.deployed.remove("digits-r2")
    assert (ready().status_code, ready().json()["error"]["code"]) == (503, "not_ready")
    assert door.ask("GET", "/readyz", who=None).status_code == 200, "the others are still served"
    door.serve(replace(system(), route=None))
    assert ready().status_code == 503
