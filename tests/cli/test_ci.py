"""The pipeline from the command line: written, found stale, run stage by stage with its exit codes."""

import json
import os
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.registry.repositories import git

SPEC = """\
system: etl
stages: [{name: count, uses: "counting:count"}]
ci: {lint: [test -e app.py], test: [exit 7]}
"""


@pytest.fixture
def tree(platformops):
    folder = Path.cwd()
    git(folder, "init", "-q")
    (folder / "etl.yaml").write_text(SPEC)
    (folder / "counting.py").write_text("def count(context):\n    return {'rows': 3}\n")
    (folder / "app.py").write_text("")
    return folder


def test_a_written_file_is_current_until_the_spec_changes(platformops, tree):
    assert platformops("ci", "write", "gitlab", "--json").json == {
        "system": "gitlab", "file": ".gitlab-ci.yml", "spec": "etl.yaml", "changed": True,
    }  # fmt: skip
    assert platformops("ci", "check", "--json").json["current"] == ["gitlab"]
    assert not platformops("ci", "write", "gitlab", "--json").json["changed"]
    (tree / "etl.yaml").write_text(SPEC.replace("exit 7", "exit 8"))
    answer = platformops("ci", "check", "--json")
    assert (answer.code, answer.json["stale"]) == (1, ["gitlab"])
    assert "platformops ci write gitlab etl.yaml" in platformops("ci", "check").err


def test_writing_from_a_folder_below_goes_to_the_top_of_the_working_tree(platformops, tree, monkeypatch):
    (tree / "below").mkdir()
    monkeypatch.chdir(tree / "below")
    assert platformops("ci", "write", "jenkins", "../etl.yaml").code == 0
    assert (tree / "Jenkinsfile").exists()


def test_what_cannot_be_written_is_refused_with_what_to_do(platformops, tree):
    assert "did you mean 'gitlab'" in platformops("ci", "write", "gitlib").err
    (tree / ".travis.yml").write_text("language: python\n")
    answer = platformops("ci", "write", "travis")
    assert (answer.code, "is there already" in answer.err) == (2, True)
    (tree / "other.yaml").write_text(SPEC)
    assert "several specs: etl.yaml, other.yaml" in platformops("ci", "write", "gitlab").err
    answer = platformops("ci", "write", "gitlab", "/etc/passwd")
    assert (answer.code, "outside of the working tree" in answer.err) == (2, True)


def test_a_stage_runs_here_with_the_exit_code_of_its_line_and_leaves_a_report(platformops, tree):
    assert platformops("ci", "run", "--stage", "lint").code == 0
    answer = platformops("ci", "run", "--stage", "test", "--json")
    assert (answer.code, answer.json["exit_code"]) == (7, 7)
    assert answer.json["stages"][0]["reason"] == "exit 7: exit 7"
    suite = ET.parse(tree / ".platformops" / "reports" / "ci.xml").getroot().find("testsuite")
    assert suite.get("failures") == "1"


def test_the_first_stage_that_fails_ends_the_pipeline(platformops, tree):
    answer = platformops("ci", "run", "--json")
    assert [stage["name"] for stage in answer.json["stages"]] == ["lint", "test"]
    assert answer.code == 7


def test_a_pipeline_without_a_model_runs_to_its_end_and_again_without_doing_a_step_twice(platformops, tree, home):
    (tree / "etl.yaml").write_text(SPEC.replace("exit 7", "test -e etl.yaml"))
    for _ in range(2):
        answer = platformops("ci", "run", "--json")
        assert [(s["name"], s["passed"]) for s in answer.json["stages"]] == [
            (name, True) for name in ("lint", "test", "build", "run")
        ]
    done = [json.loads(line) for log in (home / "logs").glob("*.jsonl") for line in log.read_text().splitlines()]
    assert [e["event.action"] for e in done].count("step-done") == 1
    assert (tree / ".platformops" / "dist" / "Containerfile").exists()


PUSHES = [
    ("notes.md", "of no meaning\n", []),
    ("counting.py", "# counts\ndef count(context):\n    return {'rows': 3}\n", []),
    ("telling.py", "def tell(context):\n    return {'told': 2}\n", ["tell"]),
    ("counting.py", "def count(context):\n    return {'rows': 4}\n", ["count", "tell"]),
]


def test_a_push_runs_again_only_what_its_fingerprints_say(platformops, tree):
    (tree / "etl.yaml").write_text(
        "system: etl\n"
        "stages: [{name: count, uses: 'counting:count'}, {name: tell, uses: 'telling:tell', needs: [count]}]\n"
    )
    (tree / "telling.py").write_text("def tell(context):\n    return {'told': 1}\n")
    seen = []
    for file, content, _ in [("notes.md", "", None), *PUSHES]:
        (tree / file).write_text(content)
        git(tree, "add", ".")
        git(tree, "commit", "-qm", file)
        steps = platformops("run", "etl.yaml", "--json").json["steps"]
        seen.append([step["name"] for step in steps if not step["cached"]])
    assert seen == [["count", "tell"], *(ran for _, _, ran in PUSHES)]


def killed_as_it_begins(tree, stage):
    """Kills the pipeline, with all that it started, as it says that it begins the stage."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    process = subprocess.Popen(
        [sys.executable, "-m", "platformops", "ci", "run"], cwd=tree, env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    with process:
        said = any(line.startswith(f"{stage}: ") for line in process.stderr)
        os.killpg(process.pid, signal.SIGKILL)
    return said


@pytest.mark.real
def test_a_pipeline_that_is_killed_at_stage_boundaries_is_finished_by_the_next_with_each_step_done_once(
    platformops, tree, home
):
    (tree / "etl.yaml").write_text(SPEC.replace("exit 7", "test -e etl.yaml"))
    assert all(killed_as_it_begins(tree, stage) for stage in ("build", "run"))
    for _ in range(2):
        assert platformops("ci", "run", "--stage", "run").code == 0
    done = [json.loads(line) for log in (home / "logs").glob("*.jsonl") for line in log.read_text().splitlines()]
    assert [e["event.action"] for e in done].count("step-done") == 1


def test_an_unknown_stage_is_refused_with_the_nearest(platformops, tree):
    answer = platformops("ci", "run", "--stage", "tets")
    assert (answer.code, "did you mean 'test'" in answer.err) == (2, True)


def test_a_pipeline_waits_for_a_person_rather_than_release(platformops, tree):
    (tree / "etl.yaml").write_text(
        "system: img\napp: image\ndata: {source: sklearn://digits}\ngates: {accuracy: '>= 0.9'}\n"
    )
    answer = platformops("ci", "run", "--stage", "approve", "--json")
    assert answer.code == 1
    assert "--approved-by NAME" in answer.json["stages"][0]["reason"]
    assert platformops("ci", "run", "--stage", "approve", "--approved-by", "ada").code == 0


def test_a_system_that_was_never_released_cannot_be_smoked(platformops, tree):
    answer = platformops("ci", "smoke", "etl.yaml")
    assert (answer.code, "never released" in answer.err) == (2, True)
