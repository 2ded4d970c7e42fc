"""The log shipper that we configure, for real: ten thousand lines reach a bulk interface that goes away meanwhile."""

import json
import os
import shutil
import socket
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from platformops.observation.stack import shippers

MODULES = [Path("/usr/lib") / arch / "rsyslog" / "omelasticsearch.so" for arch in os.listdir("/usr/lib")]
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        shutil.which("rsyslogd") is None or not any(module.is_file() for module in MODULES),
        reason="rsyslog and rsyslog-elasticsearch are not installed",
    ),
]
LINES = 10_000


class Bulk:
    """Emulates as much of Elasticsearch as a shipper sees: `_bulk` with `create`, where an id is taken once."""

    def __init__(self):
        self.documents, self.messages, self.repeated, self.port, self.server = {}, set(), 0, 0, None

    def start(self):
        bulk = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.0"  # a kept connection would outlive the restart

            def do_GET(self):
                self._answer({"version": {"number": "8.15.3"}})

            do_HEAD = do_GET

            def do_POST(self):
                lines = self.rfile.read(int(self.headers["Content-Length"])).decode().splitlines()
                pairs = zip(lines[::2], lines[1::2], strict=True)
                items = [bulk.take(json.loads(head)["create"], json.loads(body)) for head, body in pairs]
                self._answer({"errors": any(i["create"]["status"] != 201 for i in items), "items": items})

            def _answer(self, document):
                content = json.dumps(document).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()

    def take(self, head, body):
        assert head["_index"] == shippers.STREAM
        if head["_id"] in self.documents:
            self.repeated += 1
            return {"create": {"status": 409, "error": {"type": "version_conflict_engine_exception"}}}
        self.documents[head["_id"]] = body
        self.messages.add(body["message"])
        return {"create": {"status": 201, "_id": head["_id"]}}

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def meet_a_closed_door(port):
    """Returns once the shipper has come in vain."""
    with socket.create_server(("127.0.0.1", port)) as door:
        door.settimeout(30)
        connection, _ = door.accept()
        connection.close()


def await_true(condition, timeout_s):
    until = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < until:
        time.sleep(0.05)
    return condition()


def test_ten_thousand_lines_arrive_whole_though_the_receiver_restarts(tmp_path):
    logs, work, bulk = tmp_path / "logs", tmp_path / "work", Bulk()
    logs.mkdir()
    work.mkdir()
    bulk.start()
    config = tmp_path / "rsyslog.conf"
    config.write_text(shippers.rsyslog_text(str(logs), host="127.0.0.1", port=bulk.port, work=str(work)))
    lines = [json.dumps({"@timestamp": "2026-01-01T00:00:00.000Z", "message": f"line {i}"}) for i in range(LINES)]
    command = ["rsyslogd", "-n", "-f", str(config), "-i", str(tmp_path / "pid")]
    shipper = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with (logs / "a.jsonl").open("w") as file:
            file.write("\n".join(lines[: LINES // 2]) + "\n")
            file.flush()
            assert await_true(lambda: len(bulk.documents) > 100, 30), "nothing was shipped"
            bulk.stop()
            file.write("\n".join(lines[LINES // 2 :]) + "\n")
        meet_a_closed_door(bulk.port)
        bulk.start()
        arrived = await_true(lambda: len(bulk.messages) == LINES, 60)
    finally:
        shipper.terminate()
        shipper.wait(timeout=30)
        bulk.stop()
    assert arrived, f"{len(bulk.messages)} of {LINES} arrived"
