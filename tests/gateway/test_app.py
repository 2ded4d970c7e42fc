"""What a request gets: predictions in one shape, refusals in one shape, and nothing of the inside."""

import asyncio
import base64
import json
from dataclasses import replace

import pytest

from platformops.gateway.app import Policy
from platformops.gateway.call import ReplicaDied
from platformops.gateway.routes import ROUTES
from tests.gateway.door import PREDICTION, Door, system

JPEG = b"\xff\xd8\xff an image"


def b64(content=JPEG):
    return base64.b64encode(content).decode()


def error_of(response):
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert set(body) == {"error"}
    assert {"code", "message", "request_id"} <= set(body["error"]) <= {"code", "message", "request_id", "field"}
    for hint in ("Traceback", "0x", "site-packages", ".py", "127.0.0.1"):
        assert hint not in response.text
    return body["error"]


def test_an_image_as_raw_bytes_gets_one_prediction(door):
    response = door.ask(content=JPEG, kind="image/jpeg")
    assert response.status_code == 200
    body = response.json()
    assert body == {
        "request_id": response.headers["x-request-id"],
        "model_version": "digits:v1",
        "revision": "digits-r1",
        "predictions": [PREDICTION],
    }
    assert door.replicas.calls == [("digits-r1", [JPEG])]


@pytest.mark.parametrize(
    ("document", "count"), [({"image": b64()}, 1), ({"images": [b64()]}, 1), ({"images": [b64()] * 3}, 3)]
)
def test_json_with_one_or_many_keeps_the_shape(door, document, count):
    response = door.ask(content=json.dumps(document), kind="application/json")
    assert response.status_code == 200
    assert response.json()["predictions"] == [PREDICTION] * count
    assert door.replicas.calls == [("digits-r1", [JPEG] * count)]


def multipart(*parts, boundary="edge"):
    body = b"".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="images"; filename="a.jpg"\r\n\r\n'.encode()
        + p
        + b"\r\n"
        for p in parts
    )
    return body + f"--{boundary}--\r\n".encode()


def test_several_files_of_a_form_are_predicted_in_order(door):
    response = door.ask(
        content=multipart(b"one", b"two\r\n--not the edge", b"three"), kind="multipart/form-data; boundary=edge"
    )
    assert response.status_code == 200
    assert door.replicas.calls == [("digits-r1", [b"one", b"two\r\n--not the edge", b"three"])]


REFUSED_BODIES = [
    ("application/json", b"{", 400, "bad_json"),
    ("application/json", b"", 400, "bad_json"),
    ("application/json", b'{"image": "\xff"}', 400, "bad_json"),
    ("application/json", b"\xef\xbb\xbf{}", 400, "bad_json"),
    ("application/json", b"[" * 100_000, 400, "json_too_deep"),
    ("application/json", b'{"image":' * 60, 400, "bad_json"),
    ("application/json", b"[" * 60 + b"]" * 60, 422, "bad_shape"),
    ("application/json", b'{"image": NaN}', 400, "bad_json"),
    ("application/json", b'{"image": -Infinity}', 400, "bad_json"),
    ("application/json", b'{"image": "QQ==", "image": "QQ=="}', 400, "bad_json"),
    ("application/json", b'{"image": ' + b"9" * 5000 + b"}", 400, "bad_json"),
    ("application/json", b'{"image": "\\ud800"}', 422, "bad_base64"),
    ("application/json", b"null", 422, "bad_shape"),
    ("application/json", b"3", 422, "bad_shape"),
    ("application/json", b"{}", 422, "bad_shape"),
    ("application/json", b'{"image": "QQ==", "extra": 1}', 422, "bad_shape"),
    ("application/json", b'{"image": 7}', 422, "bad_shape"),
    ("application/json", b'{"images": "QQ=="}', 422, "bad_shape"),
    ("application/json", b'{"images": []}', 422, "no_items"),
    ("application/json", b'{"images": ["QQ==", ""]}', 422, "empty_item"),
    ("application/json", b'{"images": ["QQ==", null]}', 422, "bad_shape"),
    ("application/json", b'{"image": "Q Q=="}', 422, "bad_base64"),
    ("application/json", json.dumps({"images": ["QQ=="] * 1_000_000}).encode(), 413, "too_many_items"),
    ("application/json", json.dumps({"images": ["QQ=="] * 300}).encode(), 413, "too_many_items"),
    ("application/json", b"[" + b"{}," * 3_000_000 + b"{}]", 413, "too_many_items"),
    ("application/json; charset=utf-16", b"{}", 415, "charset"),
    ("image/png", b"", 422, "empty_item"),
    ("image/png", b"bad image", 422, "bad_image"),
    ("image/png", b"huge image", 413, "too_many_pixels"),
    ("text/plain", b"image", 415, "media_type"),
    ("", b"image", 415, "media_type"),
    (";;;", b"image", 415, "media_type"),
    ("multipart/form-data", b"x", 400, "bad_multipart"),
    ("multipart/form-data; boundary=" + "b" * 5000, b"x", 400, "bad_multipart"),
    ("multipart/form-data; boundary=edge", b"garbage", 400, "bad_multipart"),
    ("multipart/form-data; boundary=edge", multipart(b"one")[:-8], 400, "bad_multipart"),
    ("multipart/form-data; boundary=edge", b"--edge--\r\n", 422, "no_items"),
    ("multipart/form-data; boundary=edge", multipart(*[b"x"] * 10_000), 413, "too_many_items"),
    ("multipart/form-data; boundary=edge", multipart(b"ok", b""), 422, "empty_item"),
    ("image/png", b"x" * (10 * 1024 * 1024 + 1), 413, "body_too_large"),
]


@pytest.mark.parametrize(("kind", "content", "status", "code"), REFUSED_BODIES, ids=lambda v: str(v)[:40])
def test_a_body_that_cannot_be_used_is_refused_with_a_code_and_the_next_request_works(
    door, kind, content, status, code
):
    response = door.ask(content=content, kind=kind)
    assert (response.status_code, error_of(response)["code"]) == (status, code)
    assert door.ask().status_code == 200


def test_a_bad_item_among_many_is_named(door):
    response = door.ask(content=multipart(b"fine", b"bad one"), kind="multipart/form-data; boundary=edge")
    assert error_of(response)["field"] == "images[1]"


def test_two_content_types_are_refused(door):
    async def go():
        async with door.client() as client:
            headers = [*door.auth().items(), ("content-type", "image/png"), ("content-type", "application/json")]
            return await client.post("/digits/predict", headers=headers, content=b"x")

    assert asyncio.run(go()).status_code == 415


def test_a_compressed_body_is_refused(door):
    assert door.ask(headers={"content-encoding": "gzip"}).status_code == 415


@pytest.mark.parametrize(
    "path",
    [
        "//digits/predict", "/digits//predict", "/%64igits/predict",
        "/digits%2fpredict", "/digits/predict;x=1", "/digits/predict.", "/digits/predict/", "/Digits/predict",
        "/digits/PREDICT", "/%2e%2e/digits/predict", "/digits/predict%00", "/nosuch/predict", "/", "/admin",
        "/-/routes", "/metrics/", "/digits/info/x", "/digits",
    ],
)  # fmt: skip
def test_no_spelling_of_a_path_gets_past_the_key(door, path):
    without = door.ask("POST", path, who=None)
    plain = door.ask("POST", "/digits/predict", who=None)
    assert without.status_code == plain.status_code == 401
    assert error_of(without)["message"] == error_of(plain)["message"]
    assert door.ask("POST", path, who="operate").status_code == 404


@pytest.mark.parametrize(
    "authorization",
    [
        "", "Bearer", "Bearer ", "Bearer wrong", "bearer po_", "Basic Og==", "Token {good}", "{good}", "Bearer {good}x",
        "Bearer {expired}", "Bearer " + "k" * 30_000,
    ],
)  # fmt: skip
def test_every_way_to_lack_a_key_gets_the_same_answer(door, authorization):
    text = authorization.format(good=door.tokens["predict"], expired=door.tokens["expired"])
    response = door.ask(who=None, headers={"authorization": text})
    expected = door.ask(who=None)
    assert response.status_code == expected.status_code == 401
    assert error_of(response)["message"] == error_of(expected)["message"]
    assert response.headers["www-authenticate"] == "Bearer"


def test_a_key_in_the_query_string_or_twice_in_the_head_opens_nothing(door):
    assert door.ask(path=f"/digits/predict?key={door.tokens['predict']}", who=None).status_code == 401

    async def twice():
        async with door.client() as client:
            headers = [*door.auth().items(), *door.auth().items(), ("content-type", "image/png")]
            return await client.post("/digits/predict", headers=headers, content=b"x")

    assert asyncio.run(twice()).status_code == 401


def test_a_revoked_key_opens_nothing_from_the_next_world_on(door):
    assert door.ask().status_code == 200
    door.entries = [e for e in door.entries if e.value["scopes"] != ["predict"]]
    door.serve(system())
    assert door.ask().status_code == 401


def test_metrics_need_an_operator_unless_loopback_scraping_is_switched_on(door):
    assert door.ask("GET", "/metrics", who="predict").status_code == 403
    assert "platformops_requests_total" in door.ask("GET", "/metrics", who="operate").text
    opened = Door(Policy(open_metrics=True))
    assert opened.ask("GET", "/metrics", who=None).status_code == 200
    assert opened.ask("GET", "/digits/info", who=None).status_code == 401


def test_the_body_is_not_read_before_the_key_is_known_to_be_good(door):
    async def go():
        sent = []

        async def receive():
            raise AssertionError("read")

        async def send(message):
            sent.append(message)

        headers = [(b"host", b"gateway"), (b"content-length", b"1000"), (b"content-type", b"image/png")]
        scope = {
            "type": "http", "method": "POST", "path": "/digits/predict", "raw_path": b"/digits/predict",
            "headers": headers, "client": ("127.0.0.1", 1),
        }  # fmt: skip
        await door.gateway(scope, receive, send)
        return sent

    sent = asyncio.run(go())
    assert sent[0]["status"] == 401
    assert (b"connection", b"close") in sent[0]["headers"]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"])
def test_a_wrong_method_is_405_and_names_the_right_one(door, method):
    response = door.ask(method)
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"
    assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize("host", ["", "gateway/path", "user@gateway", "a b", "gateway:port", "[::1", "x" * 300])
def test_an_odd_host_is_refused(door, host):
    assert door.ask(headers={"host": host}).status_code == 400


def test_only_listed_hosts_are_answered():
    door = Door(Policy(hosts=frozenset({b"localhost", b"[::1]"})))
    assert door.ask(headers={"host": "LocalHost:8400"}).status_code == 200
    assert door.ask(headers={"host": "[::1]:8400"}).status_code == 200
    assert door.ask(headers={"host": "evil.example"}).status_code == 400


def test_an_unknown_system_is_404_and_one_without_a_route_is_503(door):
    assert door.ask(path="/nosuch/predict", who="operate").status_code == 404
    door.serve(replace(system(), route=None))
    response = door.ask()
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"


def test_a_system_that_is_taken_down_is_not_served(door):
    door.serve(system(wanted="down"))
    assert door.ask(who="operate").status_code == 404


def test_pinning_a_revision_is_for_operators(door):
    pin = {"x-platformops-revision": "digits-r2"}
    assert door.ask(headers=pin).status_code == 403
    response = door.ask(headers=pin, who="operate")
    assert response.json()["revision"] == "digits-r2"
    assert door.replicas.calls == [("digits-r2", [b"image"])]


@pytest.mark.parametrize("name", ["digits-r9", "faces-r1", "digits", "digits-r", "digits-rx", "digits-r1/..", "é"])
def test_pinning_a_revision_that_is_not_there_is_404(door, name):
    assert door.ask(headers={"x-platformops-revision": name.encode()}, who="operate").status_code == 404


def test_headers_that_would_pick_internals_are_ignored(door):
    response = door.ask(
        headers={
            "x-request-id": "x" * 10_000,
            "serve_multiplexed_model_id": "other",
            "x-forwarded-for": "10.0.0.1",
            "x-http-method-override": "DELETE",
        }
    )
    assert response.status_code == 200
    assert response.headers["x-request-id"].startswith("id-")
    assert door.seen[-1].client == "127.0.0.1"


def test_equal_request_keys_go_to_the_same_revision_and_long_ones_are_refused(door):
    door.serve(system(weights={"digits-r1": 50.0, "digits-r2": 50.0}, token=2))
    for key in ("alice", "bob", "carol", "dave"):
        revisions = {door.ask(headers={"x-request-key": key}).json()["revision"] for _ in range(5)}
        assert len(revisions) == 1
    assert door.ask(headers={"x-request-key": "k" * 257}).status_code == 400


def test_a_key_that_asks_too_often_gets_429_and_how_long_to_wait(door):
    door.serve(system(serve={"max_requests_per_s": 2.0}))
    statuses = [door.ask().status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    assert door.ask().headers["retry-after"] == "1"


def test_a_replica_that_never_answers_costs_504_at_the_deadline(door):
    async def hang(revision, items):
        await asyncio.sleep(60)

    door.replicas.behave = hang
    door.serve(system(serve={"timeout_s": 0.3, "slo": {"p99_ms": 100.0}}))
    response = door.ask()
    assert response.status_code == 504
    assert error_of(response)["code"] == "deadline_exceeded"


def test_a_replica_that_dies_is_not_seen_by_the_client(door):
    died = []

    async def die_once(revision, items):
        if not died:
            died.append(1)
            raise ReplicaDied

    door.replicas.behave = die_once
    assert door.ask().status_code == 200
    assert len(door.replicas.calls) == 2


def test_an_error_in_the_call_port_is_500_without_a_word_about_it(door):
    async def fail(revision, items):
        raise RuntimeError("/secret/path at 0x7f")

    door.replicas.behave = fail
    response = door.ask()
    assert response.status_code == 500
    assert error_of(response)["code"] == "replica_failed"


def test_a_full_queue_answers_503_at_once_and_one_that_fits_is_served(door):
    async def go():
        door.serve(system(serve={"max_queue": 2, "batch": 1}))
        release = asyncio.Event()

        async def wait(revision, items):
            await release.wait()

        door.replicas.behave = wait
        async with door.client(headers={**door.auth(), "content-type": "image/png"}) as client:
            ask = lambda: asyncio.create_task(client.post("/digits/predict", content=b"x"))  # noqa: E731
            waiting = [ask() for _ in range(3)]
            while (
                len(door.replicas.calls) < 1 or sum(lane.queued for lane in door.gateway._predicting.lanes.values()) < 2
            ):
                await asyncio.sleep(0)
            refused = await asyncio.wait_for(ask(), 1)
            release.set()
            return refused, await asyncio.gather(*waiting)

    refused, answered = asyncio.run(go())
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    assert [r.status_code for r in answered] == [200, 200, 200]


def test_info_tells_the_holder_of_a_key_what_is_served(door):
    body = door.ask("GET", "/digits/info", kind=None, content=b"").json()
    assert body["revision"] == "digits-r1"
    assert body["model_version"] == "digits:v1"
    assert body["classes"] == ["3", "8"]
    assert body["weights"] == {"digits-r1": 100.0}
    assert body["limits"]["max_body_bytes"] == 10 * 1024 * 1024


def test_the_openapi_document_describes_every_route_and_names_no_system(door):
    response = door.ask("GET", "/openapi.json")
    document = response.json()
    assert {(p, m.upper()) for p, methods in document["paths"].items() for m in methods} == {
        (route.path, route.method) for route in ROUTES
    }
    assert "digits" not in response.text


def test_the_page_loads_nothing_from_elsewhere(door):
    page = door.ask("GET", "/docs")
    assert page.headers["content-type"].startswith("text/html")
    for loading in ("<script", "src=", "<link", "@import", "https://"):
        assert loading not in page.text


def test_metrics_count_by_system_revision_status_and_reason_and_never_by_what_clients_invent(door):
    door.ask()
    door.ask(content=b"bad")
    door.ask(path="/invented/predict", who="operate")
    text = door.ask("GET", "/metrics", who="operate").text
    assert 'platformops_requests_total{revision="digits-r1",status="200",system="digits"} 1.0' in text
    assert 'platformops_refused_total{code="bad_image",system="digits"} 1.0' in text
    assert "invented" not in text
