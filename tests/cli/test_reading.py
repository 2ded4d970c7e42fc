"""The verbs that read what the platform wrote down: why, status, models, logs, plan."""

import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from platformops.cli.endpoint import GATEWAY
from platformops.cli.logs import followed, tail
from platformops.cli.models import listed
from platformops.cli.status import SILENT_AFTER_S, _draw, seen
from platformops.cli.trends import Trends
from platformops.cli.why import explanations
from platformops.clock import ManualClock
from platformops.delivery.systems import stop_system
from platformops.errors import UserError
from platformops.observation.log_lines import line as log_line
from platformops.store.open import open_store
from tests.simulation.world import Script, World

FINGERPRINT = "abcdef0123456789" * 4


@pytest.fixture
def promoted():
    world = World()
    world.release(1)
    world.until_settled()
    world.run(10)
    return world


@pytest.fixture
def refused():
    world = World(Script(weak={"img-r1"}))
    world.release(1)
    world.until_settled()
    return world


@pytest.fixture
def keep(home):
    """Copies a simulated platform's records into this home's store."""

    def keep_world(world):
        home.mkdir()
        store = open_store(f"sqlite:///{home / 'store.db'}")
        for entry in world.store.scan(""):
            store.put(entry.key, entry.value, expect=None)
        store.close()

    return keep_world


def test_why_tells_the_gate_that_refused_and_what_would_change_it(refused, keep, platformops):
    keep(refused)
    answer = platformops("why", "img", "--json")
    assert answer.code == 0
    assert answer.json["decision"].startswith("refused img:v1")
    assert {"accuracy"} & {gate["name"] for gate in answer.json["evidence"] if not gate["passed"]}
    assert answer.json["would_change"]
    text = platformops("why", "img").out
    assert "because" in text
    assert "accuracy refused: " in text


@pytest.mark.parametrize("subject", ["img", "img:v1", "img:rollout-1"])
def test_why_knows_a_system_a_version_and_a_rollout(promoted, subject):
    (found,) = explanations(promoted.store, subject, limit=1)
    assert found["decision"].startswith("promoted")
    assert set(found) >= {"decision", "reason", "evidence"}


def test_why_writes_a_page_on_a_rollout_and_on_nothing_else(promoted, keep, platformops, tmp_path):
    keep(promoted)
    page = tmp_path / "page.html"
    assert platformops("why", "img:rollout-1", "--page", str(page)).code == 0
    text = page.read_text(encoding="utf-8")
    assert "<title>img:rollout-1: promoted</title>" in text
    assert "accuracy" in text
    assert platformops("why", "img", "--page", str(page)).code == 2


def test_why_goes_back_as_far_as_asked(promoted):
    assert len(explanations(promoted.store, "img", limit=100)) > 1


@pytest.fixture
def ran(promoted):
    store = promoted.store
    steps = [{"name": "train", "state": "failed", "cached": False, "seconds": 3.0, "reason": "out of memory"}]
    store.put("run/r1", {"system": "img", "state": "failed", "reason": "train failed", "steps": steps}, expect=None)
    step = {"stage": "train", "state": "failed", "reason": "out of memory", "attempts": 2, "run_id": "r1"}
    store.put(f"step/{FINGERPRINT}", step, expect=None)
    store.put("latest/img/train", {"fingerprint": FINGERPRINT, "seconds": 3.0, "key": {}}, expect=None)
    return store


def test_why_tells_of_a_run(ran):
    (found,) = explanations(ran, "r1", limit=1)
    assert (found["decision"], found["reason"]) == ("run failed", "train failed")
    assert found["evidence"][0]["reason"] == "out of memory"


@pytest.mark.parametrize("subject", [FINGERPRINT, FINGERPRINT[:8], "img/train", "train"])
def test_why_tells_of_a_step_by_fingerprint_or_stage(ran, subject):
    (found,) = explanations(ran, subject, limit=1)
    assert (found["decision"], found["reason"]) == ("step train failed", "out of memory")


@pytest.mark.parametrize(
    ("subject", "hint"),
    [("imgg", "did you mean 'img'?"), ("img/trian", "did you mean 'img/train'?"), ("zzz", "known: ")],
)
def test_why_of_something_unknown_names_the_nearest(ran, subject, hint):
    with pytest.raises(UserError) as caught:
        explanations(ran, subject, limit=1)
    assert hint in caught.value.remedy


def test_why_tells_of_a_request_by_its_id_or_its_trace(promoted, home, keep, platformops):
    id = "4f2a" * 6
    sample = {"revision": "img-r1", "model_version": "img:v1", "node": "n1", "label": "3", "truth": "8", "at": 5.0}
    promoted.store.put(f"sample/img/{id}", {"request_id": id, **sample}, expect=None)
    keep(promoted)
    (home / "logs").mkdir()
    line = {"http.request.id": id, "http.response.status_code": 200, "@timestamp": "T"}
    (home / "logs" / "gateway.jsonl").write_text(json.dumps(line) + "\n")
    for subject in (id, id.rjust(32, "0")):
        told = platformops("why", subject, "--json").json
        assert told["decision"] == "request answered 200 by img:v1 on node n1"
        assert told["evidence"][0]["truth"] == "8"
        assert told["evidence"][1] == line
    (home / "logs" / "gateway.jsonl").write_text("")
    assert platformops("why", id).out.startswith(f"{id}: request answered by img:v1")
    assert platformops("why", "0" * 24).code == 2


def test_watching_status_draws_what_is_answered_until_it_is_ended(promoted, monkeypatch, capsys):
    counts = iter((0.0, 100.0, 300.0))

    def counted(endpoint):
        labels = (("revision", "img-r1"), ("status", "200"), ("system", "img"))
        return {("platformops_requests_total", labels): next(counts)}

    monkeypatch.setattr("platformops.cli.measuring.counted", counted)
    monkeypatch.setattr("platformops.cli.perf.endpoint_of", lambda system: system)
    clock, trends = ManualClock(), Trends()
    for _ in range(3):
        _draw(seen(promoted.store, promoted.clock.now()), trends, clock, is_live=True)
        clock.sleep(2.0)
    out = capsys.readouterr().out
    assert "img: requests/s ▅█ 100.0" in out
    assert out.count("img: errors") == 2, "the first look has nothing to compare with"


@pytest.mark.parametrize("subject", ["", "../x", "a/b/c", "\x1b[2J", "‮", "x" * 5000, "%s", "abcdef01"])
def test_why_of_a_strange_subject_exits_2_and_prints_it_harmlessly(platformops, subject):
    answer = platformops("why", "--", subject)
    assert answer.code == 2
    assert not [c for c in answer.err if not c.isprintable() and c != "\n"]


def test_status_shows_a_live_system(promoted):
    promoted.store.put(GATEWAY, {"endpoint": "http://127.0.0.1:8000/"}, expect=None)
    document = seen(promoted.store, promoted.clock.now())
    (system,) = document["systems"]
    assert set(system) >= {"name", "state", "revision", "weights", "endpoint", "replicas"}
    assert (system["state"], system["revision"], system["weights"]) == ("live", "img-r1", {"img-r1": 100.0})
    assert system["endpoint"] == "http://127.0.0.1:8000/img/predict"
    assert document["controller"]["state"] == "running"
    assert document["nodes"]


def test_status_does_not_pass_off_old_news_as_new(promoted):
    promoted.store.put(GATEWAY, {"endpoint": "http://127.0.0.1:8000"}, expect=None)
    document = seen(promoted.store, promoted.clock.now() + SILENT_AFTER_S + 10)
    (system,) = document["systems"]
    assert document["controller"]["state"] == "silent"
    assert (system["state"], system["endpoint"], document["nodes"]) == ("unknown", None, [])


def test_status_of_a_stopped_system_has_no_endpoint(promoted):
    promoted.store.put(GATEWAY, {"endpoint": "http://127.0.0.1:8000"}, expect=None)
    stop_system(promoted.store, "img", now=promoted.clock.now())
    promoted.run(120)
    (system,) = seen(promoted.store, promoted.clock.now())["systems"]
    assert (system["state"], system["endpoint"]) == ("down", None)


def test_status_works_when_nothing_ever_ran(platformops):
    answer = platformops("status", "--json")
    assert answer.code == 0
    assert answer.json["systems"] == answer.json["nodes"] == []
    assert answer.json["controller"]["state"] == "absent"
    assert "No systems yet." in platformops("status").out


def test_status_is_a_table_for_people(promoted, keep, platformops):
    keep(promoted)
    out = platformops("status").out
    assert "img-r1 100 %" in out
    assert "Controller: silent" in out


def test_models_lists_versions_newest_first_with_their_standing(promoted):
    promoted.release(2)
    promoted.until_settled()
    promoted.run(5)
    second, first = listed(promoted.store, "img")
    assert (second["name"], first["name"]) == ("img:v2", "img:v1")
    assert "champion" in second["aliases"]
    assert second["metrics"]


def test_models_says_which_gates_refused_a_version(refused, keep, platformops):
    keep(refused)
    (version,) = platformops("models", "img", "--json").json["models"]
    assert (version["refused_by"], "champion" in version["aliases"]) == (["accuracy"], False)
    assert "refused by accuracy" in platformops("models").out


def test_models_of_an_unknown_name_exits_2_with_the_nearest(promoted, keep, platformops):
    keep(promoted)
    answer = platformops("models", "igm")
    assert answer.code == 2
    assert "img" in answer.err


@pytest.fixture
def log(home):
    (home / "logs").mkdir(parents=True)
    path = home / "logs" / "20261122-000000-abcd.jsonl"
    line = {"@timestamp": "T", "log.level": "info", "message": "step done", "platformops.stage": "train"}
    path.write_text(json.dumps(line) + "\nnot json \x1b[31m\n" + '{"message": "half')
    return path


def test_logs_print_whole_lines_for_people(log, platformops):
    out = platformops("logs").out
    assert "T info step done stage=train" in out
    assert "not json \\x1b[31m" in out
    assert "half" not in out


def test_logs_print_lines_as_they_are_for_programs(log, platformops):
    answer = platformops("logs", "--run", log.stem, "--json", "-n", "1")
    assert answer.out == "not json \x1b[31m\n"


@pytest.mark.parametrize("run", ["../../etc/passwd", "x/y", "nothing", "-x", "\x00", "*"])
def test_logs_of_an_unknown_run_exit_2_and_open_nothing(log, platformops, run):
    answer = platformops("logs", f"--run={run}")
    assert answer.code == 2
    assert "there is no log of run" in answer.err


def test_logs_without_any_say_what_makes_some(platformops):
    answer = platformops("logs")
    assert answer.code == 0
    assert "No logs yet." in answer.out


@pytest.fixture
def many_logs(home):
    """A run's log and the gateway's, of which both say something of digits:v2."""
    (home / "logs").mkdir(parents=True)
    run = [
        log_line(20.0 + i, "step", f"step {name}", about={"stage": name}) for i, name in enumerate(("train", "test"))
    ]
    requests = [
        log_line(at, "request", id, ecs={"http.request.id": id}, about={"version": version, "node": node})
        for at, id, version, node in [(30.0, "r1", "digits:v1", "4f2a"), (10.0, "r2", "digits:v2", "4f99")]
    ]
    late = log_line(40.0, "compared", "judged", about={"version": "digits:v2"})
    (home / "logs" / "20261122-000000-abcd.jsonl").write_text("\n".join([*run, late, "no json", ""]))
    (home / "logs" / "gateway.jsonl").write_text("\n".join([*requests, ""]))


@pytest.mark.parametrize(
    ("filters", "messages"),
    [
        (("--stage", "train"), ["step train"]),
        (("--version", "digits:v2"), ["r2", "judged"]),
        (("--node", "4f"), ["r2", "r1"]),
        (("--request", "r1"), ["r1"]),
        (("--version", "digits:v2", "-n", "1"), ["judged"]),
        (("--version", "digits:v2", "--run", "20261122-000000-abcd"), ["judged"]),
        (("--version", "digits:v2", "--node", "4f2a"), []),
    ],
)
def test_logs_are_searched_by_what_they_are_about_in_the_order_of_their_times(
    many_logs, platformops, filters, messages
):
    lines = platformops("logs", *filters, "--json").out.splitlines()
    assert [json.loads(line)["message"] for line in lines] == messages


def test_following_yields_each_line_once_it_is_whole_and_survives_rotation(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_text("one\ntwo\nthr")
    parts = ["ee\n", "four\nfi", "ve\n"]

    def grow():
        if parts:
            with path.open("a") as file:
                file.write(parts.pop(0))
        else:
            path.unlink()
            path.write_text("six\n")

    lines = followed(path, 1, pause=grow)
    assert [next(lines) for _ in range(5)] == ["two", "three", "four", "five", "six"]


@pytest.mark.real
def test_ctrl_c_ends_following_quietly_with_130(log):
    command = [sys.executable, "-m", "platformops", "logs", "-f"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert "step done" in process.stdout.readline()
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, err) == (130, "")


def test_the_tail_of_a_huge_log_reads_its_end_only(tmp_path):
    path = tmp_path / "run.jsonl"
    with path.open("wb") as file:
        file.truncate(3 * 1024**3)
        file.seek(0, os.SEEK_END)
        file.write(b"\nlast\n")
    assert tail(path, 1) == ["last"]


SPEC = """
system: flow
stages:
- {name: clean, uses: steps:clean, with: {n: 1}}
- {name: join, uses: steps:join, needs: [clean]}
"""


def test_plan_says_why_each_step_would_run(platformops, tmp_path):
    (tmp_path / "work" / "steps.py").write_text("def clean(context, n): pass\ndef join(context): pass\n")
    (tmp_path / "work" / "flow.yaml").write_text(SPEC)
    answer = platformops("plan", "flow.yaml", "--json")
    assert answer.code == 0
    assert [(s["name"], s["cached"], s["reasons"]) for s in answer.json["steps"]] == [
        ("clean", False, ["never ran"]),
        ("join", False, ["never ran"]),
    ]
    out = platformops("plan", "flow.yaml").out
    assert "2 of 2 steps would run" in out


def test_plan_changes_the_fingerprint_with_an_override(platformops, tmp_path):
    (tmp_path / "work" / "steps.py").write_text("def clean(context, n): pass\ndef join(context): pass\n")
    (tmp_path / "work" / "flow.yaml").write_text(SPEC)
    one = platformops("plan", "flow.yaml", "--json").json["steps"]
    other = platformops("plan", "flow.yaml", "--json", "--set", "stages.0.with.n=2").json["steps"]
    assert [s["fingerprint"] for s in one] != [s["fingerprint"] for s in other]


def test_two_readers_at_once_do_not_disturb_each_other(platformops, home):
    failures = []

    def read():
        for _ in range(20):
            store = open_store(f"sqlite:///{home / 'store.db'}")
            try:
                seen(store, 0.0)
            except Exception as error:
                failures.append(error)
            finally:
                store.close()

    assert platformops("status").code == 0
    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_version_by_name_shows_its_card_and_an_unknown_one_says_what_there_is(promoted, keep, platformops):
    keep(promoted)
    card = platformops("models", "img:v1").out
    assert card.startswith("# img:v1")
    assert "## Lineage" in card
    answer = platformops("models", "img:v99")
    assert answer.code == 2
    assert "img has versions" in answer.err
