"""`drill release` as typed, and the load that it sends."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from platformops.cli.load import Load, Rows
from platformops.clock import SystemClock


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--defect", "fire"), "no defect 'fire'"),
        (("--defect", "hang", "--all"), "say different things"),
        ((), "no system is live"),
    ],
)
def test_what_cannot_be_drilled_is_refused_with_what_can(platformops, arguments, said):
    answer = platformops("drill", "release", *arguments)
    assert answer.code == 2
    assert said in answer.err


@pytest.fixture
def server():
    """A system that refuses every fourth request, and keeps the labels that come back."""
    labels, count = {}, iter(range(10**9))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            number, status = next(count), 200
            if self.path.endswith("/feedback"):
                asked = json.loads(body)
                labels[asked["request_id"]] = asked["label"]
            elif number % 4 == 3:
                status = 503
            reply = json.dumps({"request_id": body.decode(), "revision": "img-r1"}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *arguments):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}/img", labels
    http.shutdown()
    http.server_close()
    thread.join()


def test_every_request_is_counted_and_one_without_an_answer_is_lost(server, monkeypatch):
    from platformops.cli import load

    monkeypatch.setattr(load, "LABEL_AFTER_S", 0.05)
    url, labels = server
    rows, enough = Rows([b"one", b"two"], ["1", "2"]), threading.Event()

    class Counting(SystemClock):
        def monotonic(self):
            if sending.seen.requests >= 80 and len(labels) == 2:
                enough.set()
            return super().monotonic()

    sending = Load(url, "po_x", rows, Counting(), rate_per_s=400, connections=2, patience_s=0.0)
    with sending:
        assert enough.wait(30)
    seen = sending.seen
    assert 0.15 < len(seen.lost) / seen.requests < 0.3
    assert seen.lost[0].startswith("HTTP 503")
    assert (seen.interrupted, set(seen.last_at)) == (0, {"img-r1"})
    assert sending.typical_s() > 0
    assert labels == {"one": "1", "two": "2"}, "each row came back with its own label"


def test_a_system_that_is_gone_loses_every_request():
    sending = Load("http://127.0.0.1:9/img", "po_x", Rows([b"x"], ["1"]), SystemClock(), rate_per_s=200, connections=1,
                   patience_s=0.0)  # fmt: skip
    gone = threading.Event()

    class Noting(list):
        def append(self, problem):
            super().append(problem)
            gone.set()

    sending.seen.lost = Noting()
    with sending:
        assert gone.wait(30)
    assert sending.seen.lost
    assert sending.typical_s() == 0.0
