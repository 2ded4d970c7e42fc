"""What is killed on a live platform comes back by itself: servers, replicas, the cluster, and people's commands."""

import json
import os
import re
import signal
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress

import psutil
import pytest

from platformops.home import home_at
from platformops.keeper.process import keeper_of
from platformops.on_ray import servers
from tests.end_to_end.platform_kit import DIGITS
from tests.end_to_end.test_live_system import until

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]
DEADLINE_S = 10.0
"""`serve.timeout_s` of the digits system."""
SLACK_S = 2.0

PIPELINE = """
system: errand
stages:
  - {name: slow, uses: "steps:slow"}
  - {name: after, uses: "steps:after", needs: [slow]}
"""
STEPS = """
import time

def slow(context):
    context.progress(0.5, "half")
    while not (context.root / "go").exists():
        time.sleep(0.05)
    return {}

def after(context):
    return {}
"""


class Clients:
    """Four of them ask the digits endpoint all the time, as long as this is entered."""

    def __init__(self, live):
        shown = live.run("up", DIGITS).stdout
        with open(re.search(r"@(\S+)", shown).group(1), "rb") as file:
            image = file.read()
        key = (live.home / "keys" / "digits.key").read_text().strip()
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "image/png"}
        self.request = lambda: urllib.request.Request(live.first[0]["endpoint"], data=image, headers=headers)
        self.answers = []
        """(asked at, seconds, status, Retry-After); status 0 for a connection that failed."""
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(4)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        until(lambda: len(self.answers) > 20, within_s=60, what="answers")
        return self

    def __exit__(self, *_):
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def since(self, at):
        return [answer for answer in list(self.answers) if answer[0] >= at]

    def until_right(self, at, *, within_s):
        until(lambda: [a for a in self.since(at) if a[2] == 200], within_s=within_s, what="a right answer")

    def _ask(self):
        while not self._ended.is_set():
            began = time.monotonic()
            status, retry_after = 0, None
            try:
                with urllib.request.urlopen(self.request(), timeout=60) as reply:
                    status = reply.status
            except urllib.error.HTTPError as refused:
                with refused:
                    status, retry_after = refused.code, refused.headers.get("Retry-After")
            except OSError:
                pass
            self.answers.append((began, time.monotonic() - began, status, retry_after))
            time.sleep(0.02)


def process_of(live, title):
    for process in live.cluster_processes():
        with suppress(psutil.Error):
            if title in " ".join(process.cmdline()):
                return process
    return None


@contextmanager
def new_process_after(live, title, strike):
    """Strikes the process with this title; on leaving, another one has come in its place."""
    before = until(lambda: process_of(live, title), within_s=60, what=title)
    os.kill(before.pid, strike)
    yield
    until(lambda: (p := process_of(live, title)) and p.pid != before.pid, within_s=90, what=f"another {title}")


def test_a_killed_gcs_is_started_again_and_no_request_fails(live):
    with Clients(live) as clients:
        began = time.monotonic()
        with new_process_after(live, "gcs_server", signal.SIGKILL):
            pass
        seen = len(clients.answers)
        until(lambda: len(clients.answers) > seen + 100, within_s=60, what="more answers")
        assert {status for _, _, status, _ in clients.since(began)} == {200}
    assert live.json("why", "keeper")["decision"] == "start the GCS again"
    log = (live.home / "logs" / "keeper.jsonl").read_text().splitlines()
    assert all(line["message"] for line in map(json.loads, log) if line["event.action"] == "decided")
    assert live.json("predict", "digits", sample_of(live))["predictions"]


@pytest.mark.parametrize("strike", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "held still"])
def test_without_its_only_replica_requests_are_refused_in_time_and_it_comes_back(live, strike):
    replica = f"ServeReplica:{live.json('status')['systems'][0]['revision']}:"
    with Clients(live) as clients:
        began = time.monotonic()
        with new_process_after(live, replica, strike):
            pass
        clients.until_right(time.monotonic(), within_s=60)
        answers = clients.since(began)
    assert {status for _, _, status, _ in answers} <= {200, 503, 504}
    assert all(retry_after for _, _, status, retry_after in answers if status == 503)
    assert max(seconds for _, seconds, _, _ in answers) < DEADLINE_S + SLACK_S


def test_a_command_whose_process_was_killed_is_finished_by_the_keeper_once(live, tmp_path):
    (tmp_path / "errand.yaml").write_text(PIPELINE)
    (tmp_path / "steps.py").write_text(STEPS)
    command = live.start("run", tmp_path / "errand.yaml")
    until(lambda: states(live) == {"slow": "running"}, within_s=60, what="the step runs")
    command.kill()
    command.communicate()
    (tmp_path / "go").touch()
    until(lambda: states(live) == {"slow": "done", "after": "done"}, within_s=90, what="both steps are done")
    until(lambda: not list((live.home / "errands").glob("*.json")), within_s=30, what="the errand is over")
    done = live.finished_steps()
    assert len(done) == len(set(done))
    assert live.json("why", "keeper")["decision"].startswith("resume ")


def test_after_a_power_cut_the_keeper_brings_everything_back(live):
    with Clients(live) as clients:
        servers.kill_processes(live.cluster_processes())
        clients.until_right(time.monotonic(), within_s=240)
    assert live.json("why", "keeper")["decision"] == "start the cluster again"
    assert live.json("status")["systems"][0]["revision"]


def test_a_keeper_that_was_killed_is_there_again_after_the_next_up(live):
    where = home_at(live.home)
    os.kill(keeper_of(where), signal.SIGKILL)
    until(lambda: keeper_of(where) is None, within_s=10, what="its end")
    live.json("up", DIGITS)
    until(lambda: keeper_of(where), within_s=30, what="another keeper")


def sample_of(live):
    return re.search(r"@(\S+)", live.run("up", DIGITS).stdout).group(1)


def states(live):
    with live.store() as store:
        return {e.value["stage"]: e.value["state"] for e in store.scan("step/") if e.value["system"] == "errand"}
