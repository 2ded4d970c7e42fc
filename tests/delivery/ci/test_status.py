"""What each receiver is asked when the state of a run is told, seen by real servers on loopback."""

import contextlib
import http.server
import json
import threading
from urllib.parse import parse_qs, urlsplit

import pytest

from platformops.cli.status_port import receiver_in, tell
from platformops.clock import ManualClock
from platformops.delivery.ci.status import Receiver, Status
from platformops.errors import UserError
from platformops.security.webhooks import Genuine, verified

STATUS = Status("digits", "c0ffee", "failed", "accuracy 0.90 is below 0.95" + "." * 200, "https://ci.example/7")
NOW = 1_700_000_000.0


@contextlib.contextmanager
def server(answer=201):
    """A receiver that keeps what it was sent."""
    got = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            got.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(answer)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *arguments):
            pass

    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.server_address[1]}", got
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()


def told(kind, path="", answer=201):
    with server(answer) as (url, got):
        is_told = tell(Receiver(kind, url + path, "t0ken-of-the-receiver"), STATUS, ManualClock(NOW))
    return is_told, got


def test_gitlab_is_told_by_its_commit_status_api():
    is_told, [(path, headers, _)] = told("gitlab", "/api/v4/projects/42")
    parts = urlsplit(path)
    assert is_told
    assert parts.path == "/api/v4/projects/42/statuses/c0ffee"
    query = parse_qs(parts.query)
    assert (query["state"], query["name"]) == (["failed"], ["platformops/digits"])
    assert headers["private-token"] == "t0ken-of-the-receiver"


def test_github_is_told_by_its_commit_status_api_in_its_own_words():
    is_told, [(path, headers, body)] = told("github", "/repos/team/app")
    document = json.loads(body)
    assert is_told
    assert path == "/repos/team/app/statuses/c0ffee"
    assert (document["state"], document["context"]) == ("failure", "platformops/digits")
    assert len(document["description"]) == 140
    assert headers["authorization"] == "Bearer t0ken-of-the-receiver"


def test_a_webhook_is_told_with_a_signature_that_its_receiver_can_verify():
    is_told, [(_, headers, body)] = told("webhook")
    assert is_told
    assert json.loads(body)["data"]["state"] == "failed"
    assert isinstance(verified(headers, body, b"t0ken-of-the-receiver", now=NOW), Genuine)


def test_a_receiver_that_refuses_or_is_not_there_ends_nothing(capsys):
    assert not told("gitlab", answer=403)[0]
    assert "gitlab did not take it (status 403)" in capsys.readouterr().err
    assert not tell(Receiver("github", "http://127.0.0.1:9", "t"), STATUS, ManualClock(NOW))
    assert "t0ken" not in capsys.readouterr().err


def test_who_is_told_is_read_from_the_environment():
    assert receiver_in({}) is None
    given = {"PLATFORMOPS_STATUS": "gitlab", "PLATFORMOPS_STATUS_URL": "https://git/api/v4/projects/1/"}
    assert receiver_in(given) == Receiver("gitlab", "https://git/api/v4/projects/1", "")
    with pytest.raises(UserError, match="did you mean 'gitlab'"):
        receiver_in({**given, "PLATFORMOPS_STATUS": "gitlap"})
    with pytest.raises(UserError, match="must start with https"):
        receiver_in({**given, "PLATFORMOPS_STATUS_URL": "git/api"})
