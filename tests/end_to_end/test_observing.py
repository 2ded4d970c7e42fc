"""A breach of the promise, from a real gateway through real Prometheus and Alertmanager to somebody's webhook."""

import json
import shutil
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest

from platformops.cli import observing
from platformops.home import home_at
from platformops.observation import metrics
from platformops.observation.metrics import Reading
from platformops.observation.stack.servers import Targets
from tests.gateway.door import Door, served, works

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        shutil.which("prometheus") is None or shutil.which("prometheus-alertmanager") is None,
        reason="prometheus and prometheus-alertmanager are not installed",
    ),
]


@pytest.fixture
def webhook():
    """URL, and what was posted there."""
    posted, arrived = [], threading.Event()

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self):
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()
            arrived.set()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Hook) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", posted, arrived
        server.shutdown()
        thread.join()


def exemplars_of(where, query):
    """Of the last minutes, as Prometheus kept them."""
    (server,) = [s for s in observing.running(where) if s.name == "prometheus"]
    asked = {"query": query, "start": time.time() - 300, "end": time.time() + 60}
    found = httpx.get(f"http://{server.address}/api/v1/query_exemplars", params=asked, trust_env=False).json()
    return [exemplar for series in found["data"] for exemplar in series["exemplars"]]


def test_a_breach_of_the_slo_reaches_a_webhook_and_everything_checks(tmp_path, webhook):
    url, posted, arrived = webhook
    where, door = home_at(tmp_path / "home"), Door()

    async def broken(revision, items):
        raise RuntimeError("the model is broken")

    with served(door) as port:
        door.gateway.metrics.tell([Reading(metrics.SLO_ERROR_RATIO, 0.001, ("digits",))])
        key = tmp_path / "key"
        key.write_text(door.tokens["operate"])
        settings = observing.Settings(Targets((f"127.0.0.1:{port}",), str(key)), scrape_s=1)
        try:
            observing.start(where, settings, webhook=url, group_wait="1s")
            until = time.monotonic() + 60
            while not arrived.wait(0.2) and time.monotonic() < until:
                door.replicas.behave = None
                assert works(door, port)
                door.replicas.behave = broken
                assert not works(door, port)
            checks = observing.checked(where)
            exemplars = exemplars_of(where, "platformops_request_seconds_bucket")
        finally:
            ended = observing.stop(where)
    assert posted, "nothing arrived within a minute"
    alerts = {alert["labels"]["alertname"]: alert for message in posted for alert in message["alerts"]}
    found = alerts["PlatformOpsErrorBudgetGoneInDays"]
    assert found["labels"]["system"] == "digits"
    assert "platformops why digits" in found["annotations"]["description"]
    assert {e["labels"]["request_id"] for e in exemplars} & {seen.request_id for seen in door.seen}
    assert [check for check in checks if check.state != "passed"] == []
    assert any(check.name.startswith("target platformops") for check in checks)
    assert sorted(ended) == ["prometheus", "prometheus-alertmanager"]
    assert observing.running(where) == []
