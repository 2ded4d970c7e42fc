"""From one file to a live endpoint, with the installed command on real Ray."""

import json
import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request

import pytest

from tests.end_to_end.platform_kit import DIGITS
from tests.faults.processes import command_of

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]


def until(true, *, within_s: float, what: str):
    """Waits for a condition of another process; fails with what was waited for."""
    deadline = time.monotonic() + within_s
    while not (answer := true()):
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.1)
    return answer


def test_two_ups_at_once_end_with_one_live_version(live):
    one, other = live.first
    assert one["model_version"] == other["model_version"] == 1
    assert one["endpoint"] == other["endpoint"] == "http://127.0.0.1:18423/digits/predict"
    assert one["metrics"]["accuracy"] >= 0.97
    assert all(gate["passed"] for gate in one["gates"])
    assert {"accuracy", "parity", "servable"} <= {gate["name"] for gate in one["gates"]}
    done = live.first_finished
    assert len(done) == len(set(done)) == len(one["steps"]), "each step was carried out by one of the two"


def test_a_second_up_is_all_cache_hits_and_prints_a_curl_line_that_works(live):
    shown = live.run("up", DIGITS).stdout
    again = live.json("up", DIGITS)
    assert all(step["cached"] for step in again["steps"])
    curl = re.search(r"^curl .*?\n.*?$", shown, re.MULTILINE).group(0)
    answer = subprocess.run(["bash", "-c", curl.replace("curl ", "curl -sS --fail ")], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    document = json.loads(answer.stdout)
    assert document["model_version"] == f"digits:v{again['model_version']}"
    assert len(document["predictions"][0]["probabilities"]) == 10


def test_the_report_is_one_page_with_pictures_and_no_outside_resource(live):
    path = re.search(r"^report: (\S+)", live.run("up", DIGITS).stdout, re.MULTILINE).group(1)
    with open(path, encoding="utf-8") as file:
        page = file.read()
    assert "<svg" in page or "data:image/png;base64" in page
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", page)


def test_status_why_models_and_predict_agree_on_what_is_live(live):
    status = live.json("status")
    (system,) = status["systems"]
    assert (system["name"], system["state"]) == ("digits", "live")
    assert system["weights"] == {system["revision"]: 100.0}
    assert status["controller"]["state"] == "running"
    newest = live.json("why", "digits", "--last", "20")
    decisions = [newest, *newest["earlier"]]
    assert all(one["decision"] and one["reason"] for one in decisions)
    assert any(one["evidence"] for one in decisions), "gates are among them"
    assert "champion" in live.run("models").stdout
    sample = re.search(r"@(\S+)", live.run("up", DIGITS).stdout).group(1)
    assert live.json("predict", "digits", sample)["predictions"]


def test_the_endpoint_refuses_without_a_key(live):
    request = urllib.request.Request(live.first[0]["endpoint"], data=b"x", headers={"Content-Type": "image/png"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=10)
    with refused.value as reply:
        assert reply.code == 401


def test_a_candidate_that_a_gate_refuses_changes_nothing_and_why_says_which_gate(live):
    before = live.json("up", DIGITS) and live.json("status")["systems"][0]["weights"]
    refused = live.json("up", DIGITS, "--set", "gates.accuracy='>= 1.01'", "--set", "train.epochs=4", expect=1)
    assert refused["endpoint"] is None
    assert next(g["name"] for g in refused["gates"] if not g["passed"]) == "accuracy"
    assert live.json("status")["systems"][0]["weights"] == before
    why = live.json("why", "digits")
    assert "accuracy" in why["reason"]
    assert "below the limit" in why["reason"]
    assert live.json("up", DIGITS)["endpoint"]


def test_an_up_with_a_change_on_an_idle_system_says_what_it_waits_for_and_how_long_and_a_drill_is_held(live):
    """One story, as each chapter starts replicas, and that is what takes the time."""
    live.json("up", DIGITS)
    before = live.json("status")["systems"][0]["weights"]
    changed = live.json("up", DIGITS, "--set", "serve.batch=32")
    assert (changed["release"], changed["endpoint"]) == ("shifting", live.first[0]["endpoint"])
    assert "step shadow: about" in changed["reason"]
    assert "more requests are needed" in changed["reason"]
    assert "then stable keeps the traffic" in changed["reason"]
    assert {"schema", "transform", "latency_under_load"} <= {gate["name"] for gate in changed["gates"]}
    assert live.json("status")["systems"][0]["weights"] == before
    assert live.json("abort", "digits")["state"] == "rolled_back"

    scorecard = live.json("drill", "release", "--defect", "nan-outputs", "--defect", "response-schema")
    assert scorecard["passed"]
    assert [case["name"] for case in scorecard["cases"]] == ["nan-outputs", "response-schema"]
    assert [case["caught_by"] for case in scorecard["cases"]] == ["servable", "schema"]
    assert all(case["requests_lost"] == 0 for case in scorecard["cases"])
    assert live.json("status")["systems"][0]["weights"] == before
    assert live.json("up", DIGITS)["release"] == "promoted"


@pytest.mark.parametrize(
    ("wish", "figures"),
    [
        ("train.workers=64", "train.workers is 64 and the cluster has"),
        ("train.devices=gpu", "the cluster has none"),
        ("serve.replicas=[40, 40]", "serve.replicas wants at least 40"),
    ],
)
def test_more_than_the_cluster_has_is_refused_before_anything_runs(live, wish, figures):
    live.json("up", DIGITS)
    finished, rollouts = live.finished_steps(), live.rollouts("digits")
    changes = ("--set", "data.split.by=content", "--set", "train.epochs=5", "--set", "serve.cpus=1", "--set", wish)
    assert figures in live.run("up", DIGITS, *changes, expect=3).stderr
    assert live.finished_steps() == finished
    assert live.rollouts("digits") == rollouts


@pytest.mark.parametrize("name", ["ControllerProcess", "GatewayProcess"])
def test_controller_and_gateway_come_back_when_killed(live, name):
    (before,) = [p for p in live.cluster_processes() if name in command_of(p)]
    os.kill(before.pid, signal.SIGKILL)

    def has_returned():
        found = [p for p in live.cluster_processes() if name in command_of(p)]
        return found and found[0].pid != before.pid

    until(has_returned, within_s=60, what=f"a new {name}")
    sample = re.search(r"@(\S+)", live.run("up", DIGITS).stdout).group(1)
    assert live.json("predict", "digits", sample)["predictions"]
