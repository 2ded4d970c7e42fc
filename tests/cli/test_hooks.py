"""Webhooks from end to end: a server process, a delivery or a Subversion commit, and the run that comes of it."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from platformops.cli.hook_runs import Command, HookRuns
from platformops.clock import ManualClock
from platformops.delivery.ci.asked import LEASE_S, Wanted
from platformops.delivery.ci.asked_store import asked_put, asked_runs, begin_next
from platformops.store.memory import MemoryStore
from tests.delivery.ci.test_status import server as status_server
from tests.registry.repositories import SVN_PASSWORD, SVN_USER, Subversion, git

SPEC = """\
system: etl
stages: [{name: count, uses: "counting:count"}]
"""
COUNTING = "def count(context):\n    return {'rows': 3}\n"
PROJECT = Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def serving(spec, home, *, started_by=("-m", "platformops"), **environment):
    """The endpoint's address while its process runs."""
    process = subprocess.Popen(
        [sys.executable, *started_by, "hooks", "serve", str(spec), "--port", "0", "--json",
         *(["--update"] if any((spec.parent / vcs).exists() for vcs in (".svn", ".git")) else [])],
        env={**os.environ, "PYTHONPATH": str(PROJECT), "PLATFORMOPS_HOME": str(home), **environment},
        cwd=spec.parent, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        yield json.loads(process.stdout.readline())["endpoint"]
    finally:
        process.terminate()
        process.wait(timeout=30)
        process.stdout.close()


def states(got):
    return [json.loads(body)["data"] for _, _, body in list(got)]


def until_ended(got):
    deadline = time.monotonic() + 120
    while not [s for s in states(got) if s["state"] != "running"]:
        assert time.monotonic() < deadline, states(got)
        threading.Event().wait(0.05)
    return states(got)


@pytest.mark.real
def test_a_commit_to_subversion_starts_a_run_of_the_updated_tree_and_its_state_is_told(platformops, home, tmp_path):
    with Subversion(tmp_path / "svn").served() as svn, status_server() as (receiver, got):
        tree = svn.working_copy()
        for name, text in (("etl.yaml", SPEC), ("counting.py", COUNTING)):
            svn.commit(tree, text, name)
        svn.svn(tree, "update")
        other = svn.working_copy("other")
        # The server's own working copy asks without a password; that of a service is kept by Subversion.
        subprocess.run(["svn", "info", svn.url, "--username", SVN_USER, "--password", SVN_PASSWORD, "--non-interactive",
                        "--config-dir", str(tmp_path / "config"), "--config-option",
                        "servers:global:store-plaintext-passwords=yes"],
                       check=True, capture_output=True)  # fmt: skip
        (tmp_path / "user").mkdir()
        (tmp_path / "config").rename(tmp_path / "user" / ".subversion")
        told = {"PLATFORMOPS_STATUS": "webhook", "PLATFORMOPS_STATUS_URL": receiver, "HOME": str(tmp_path / "user"),
                "PLATFORMOPS_STATUS_TOKEN": "a token of sixteen"}  # fmt: skip
        with serving(tree / "etl.yaml", home, **told) as endpoint:
            hook = svn.repository / "hooks" / "post-commit"
            hook.write_text(
                f"#!/bin/sh\nPYTHONPATH={PROJECT} PLATFORMOPS_HOME={home} {sys.executable} -m platformops hooks send "
                f'{endpoint}/hooks/etl --revision "$2" --as svn\n'
            )
            hook.chmod(0o755)
            svn.commit(other, COUNTING.replace("3", "4"), "counting.py")
            ended = until_ended(got)
    assert [(s["state"], s["revision"]) for s in ended] == [("running", "4"), ("success", "4")]
    assert "4" in (tree / "counting.py").read_text(), "the tree was updated first"
    assert len(list((home / "logs").glob("*.jsonl"))) == 1
    log = platformops("hooks", "log", "--json").json
    assert [(e["outcome"], e["who"]) for e in log["entries"]] == [("accepted", "svn")]
    assert log["broken_at"] is None


@pytest.mark.real
def test_a_delivery_with_another_secret_is_refused_by_the_process_and_on_record(platformops, home, monkeypatch):
    (Path.cwd() / "etl.yaml").write_text(SPEC)
    (Path.cwd() / "counting.py").write_text(COUNTING)
    git(Path.cwd(), "init", "-q")
    with serving(Path.cwd() / "etl.yaml", home) as endpoint:
        monkeypatch.setenv("PLATFORMOPS_HOOK_SECRET", "not the secret of it")
        answer = platformops("hooks", "send", f"{endpoint}/hooks/etl")
        assert (answer.code, "401: the signature does not match" in answer.err) == (1, True)
        monkeypatch.delenv("PLATFORMOPS_HOOK_SECRET")
        answer = platformops("hooks", "send", f"{endpoint}/hooks/cats")
        assert (answer.code, "no such project; there are etl" in answer.err) == (1, True)
    assert [e["outcome"] for e in platformops("hooks", "log", "--json").json["entries"]] == ["refused", "refused"]


def test_a_sender_without_secret_or_receiver_is_told_what_to_do(platformops, monkeypatch):
    assert "set PLATFORMOPS_HOOK_SECRET" in platformops("hooks", "send", "http://127.0.0.1:9/hooks/a").err
    monkeypatch.setenv("PLATFORMOPS_HOOK_SECRET", "short")
    assert "less than 16" in platformops("hooks", "send", "http://127.0.0.1:9/hooks/a").err
    monkeypatch.setenv("PLATFORMOPS_HOOK_SECRET", "long enough to be one")
    answer = platformops("hooks", "send", "http://127.0.0.1:9/hooks/a")
    assert (answer.code, "hooks serve" in answer.err) == (3, True)
    assert platformops("hooks", "send", "nowhere").code == 2


def test_a_tree_without_version_control_cannot_be_updated(platformops):
    (Path.cwd() / "etl.yaml").write_text(SPEC)
    (Path.cwd() / "counting.py").write_text(COUNTING)
    answer = platformops("hooks", "serve", "etl.yaml", "--update")
    assert (answer.code, "no working tree" in answer.err) == (2, True)


@pytest.fixture
def runs(tmp_path):
    """Makes what carries out asked runs of project `a` by `--version`; all of them share a store and a clock."""
    store, clock = MemoryStore(), ManualClock()

    def made(tell, holder="one", arguments=("--version",)):
        commands = {"a": Command(arguments, tmp_path, "")}
        found = HookRuns(commands, tell, store=store, clock=clock, holder=holder)

        def ask(revision, *, is_started=True):
            wanted = Wanted("a", revision, "")
            store.commit([asked_put(store, wanted, clock.now())[1]])
            return found.start(wanted) if is_started else ""

        return found, ask

    made.store, made.clock = store, clock
    return made


def test_deliveries_during_a_run_are_one_more_run_afterwards(runs):
    told, began, goes_on = [], threading.Event(), threading.Event()

    def tell(wanted, state, description):
        told.append((wanted.revision, state))
        if state == "running" and wanted.revision == "1":
            began.set()
            goes_on.wait(60)

    carrying, ask = runs(tell)
    assert ask("1") == "a run was started"
    assert began.wait(60)
    assert [ask(r) for r in ("2", "3", "4")] == ["it runs after the present run"] * 3
    goes_on.set()
    carrying.wait()
    assert told == [("1", "running"), ("1", "success"), ("4", "running"), ("4", "success")]
    assert ask("5") == "a run was started"
    carrying.wait()
    assert [run.state.value for run in asked_runs(runs.store, 9)] == ["success"] * 3


def test_a_run_that_fails_is_told_with_its_exit_code(runs):
    told = []
    carrying, ask = runs(lambda *news: told.append(news[1:]), arguments=("plan", "nothing.yaml"))
    ask("1")
    carrying.wait()
    assert told[-1][0] == "failed"
    assert told[-1][1].startswith("exit 2")


def test_a_run_that_was_accepted_and_not_begun_is_begun_by_the_next_process_and_only_once(runs):
    told = []
    _, ask = runs(lambda *_: None)
    ask("1", is_started=False)
    for holder in ("two", "three"):
        after, _ = runs(lambda wanted, state, _: told.append((wanted.revision, state)), holder)
        after.resume()
        after.wait()
    assert told == [("1", "running"), ("1", "success")]


def test_a_run_whose_process_died_within_it_is_begun_again_once_its_lease_has_run_out(runs):
    told = []
    _, ask = runs(lambda *_: None)
    ask("1", is_started=False)
    begin_next(runs.store, "a", "one", runs.clock.now())
    runs.clock.sleep(LEASE_S)
    after, _ = runs(lambda wanted, state, _: told.append(state), "two")
    after.resume()
    after.wait()
    assert told == ["running", "success"]
    assert asked_runs(runs.store, 1)[0].attempts == 2


KILLED_AS_IT_BEGINS = """\
import os, signal, sys
from platformops.cli.hook_runs import HookRuns
HookRuns.start = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
HookRuns.resume = lambda *_: None
from platformops.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.real
def test_a_run_that_was_accepted_survives_the_kill_of_its_server_and_its_resend_is_told_of_it(
    platformops, home, tmp_path
):
    spec, delivery = Path.cwd() / "etl.yaml", "msg_of_the_killed"
    spec.write_text(SPEC)
    (Path.cwd() / "counting.py").write_text(COUNTING)
    told = {"PLATFORMOPS_STATUS": "webhook", "PLATFORMOPS_STATUS_TOKEN": "a token of sixteen"}
    send = ("hooks", "send", "--revision", "7", "--delivery", delivery, "--json")
    with status_server() as (receiver, got):
        told["PLATFORMOPS_STATUS_URL"] = receiver
        with serving(spec, home, started_by=("-c", KILLED_AS_IT_BEGINS), **told) as endpoint:
            assert platformops(*send, f"{endpoint}/hooks/etl").code == 3, "it died before it answered"
        assert not states(got)
        with serving(spec, home, **told) as endpoint:
            ended = until_ended(got)
            answer = platformops(*send, f"{endpoint}/hooks/etl")
            led_to = next((home / "logs").glob("*.jsonl")).stem
            assert (answer.code, answer.json["run"]) == (0, "etl/1")
            assert answer.json["outcome"].startswith(f"it led to {led_to}, success")
    assert [(s["state"], s["revision"]) for s in ended] == [("running", "7"), ("success", "7")]
    log = platformops("hooks", "log", "--json").json
    assert [(run["run"], run["state"], run["attempts"]) for run in log["runs"]] == [("etl/1", "success", 1)]
    assert [entry["outcome"] for entry in log["entries"]] == ["accepted", "refused"], "the second was a replay"
    assert len(list((home / "logs").glob("*.jsonl"))) == 1
