"""GitLab's, Jenkins's and Travis's files run from their first stage to their last, on stand-ins for what they call."""

import json
import os
from pathlib import Path

import pytest

from platformops.delivery.ci.systems import SYSTEMS, written
from tests.delivery.ci.tools import PIPELINE, ran, tool
from tests.delivery.ci.travis_phases import run_build
from tests.registry.repositories import git

RUNNER = Path(__file__).with_name("jenkinsfile.groovy")
NAMES = [stage.name for stage in PIPELINE.stages]
CALLED = ("platformops", "ruff", "python", "python3")


def furnished(folder):
    """In its `bin` each program writes down how it was called, and fails where `failing` says."""
    programs = folder / "bin"
    programs.mkdir(parents=True)
    for name in CALLED:
        program = programs / name
        program.write_text(
            f'#!/bin/sh\necho "{name} $*" >> {folder}/calls\n'
            f'case "{name} $*" in *"$(cat {folder}/failing)"*) exit 3;; esac\n'
        )
        program.chmod(0o755)
    (folder / "failing").write_text("nothing fails")
    return folder


@pytest.fixture
def tree(tmp_path, monkeypatch):
    furnished(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def calls(tree):
    return (tree / "calls").read_text().splitlines()


@pytest.fixture(scope="module")
def jenkins(tmp_path_factory):
    """What became of the file in each of four runs, with the folder it ran in; one Java process runs them all."""
    groovy, root = tool("groovy"), tmp_path_factory.mktemp("jenkins")
    text = written(SYSTEMS["jenkins"], PIPELINE, None)
    secrets = [f"SECRET_{name}=value of {name}" for name in PIPELINE.secrets]
    runs = {
        "good": (text, "main", "nothing fails"),
        "failing": (text, "main", "--strict"),
        "branch": (text, "topic", "nothing fails"),
        "misspelt": (text.replace("    stages {", "    stagess {", 1), "main", "nothing fails"),
    }
    arguments = []
    for name, (content, branch, failing) in runs.items():
        folder = furnished(root / name)
        (folder / "Jenkinsfile").write_text(content)
        (folder / "failing").write_text(failing)
        path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        arguments += ["NEXT"] if arguments else []
        arguments += [folder / "Jenkinsfile", folder, f"BRANCH_NAME={branch}", "APPROVER=ada", f"PATH={path}", *secrets]
    _, out = ran(groovy, RUNNER, *arguments, **_java())
    results = [json.loads(line.removeprefix("RESULT ")) for line in out.splitlines() if line.startswith("RESULT ")]
    assert len(results) == len(runs), out
    return {name: (result, root / name) for name, result in zip(runs, results, strict=True)}


def _java():
    """Debian's groovy wants JAVA_HOME."""
    homes = [path.parent.parent for path in sorted(Path("/usr/lib/jvm").glob("java-*-openjdk-*/bin/java"))]
    return {} if os.environ.get("JAVA_HOME") or not homes else {"JAVA_HOME": str(homes[0])}


@pytest.mark.real
def test_the_jenkinsfile_runs_all_stages_and_hands_the_approver_on(jenkins):
    told, folder = jenkins["good"]
    assert told["error"] is None
    assert told["states"] == dict.fromkeys(["install", *NAMES], "passed")
    assert "platformops release configs/digits.yaml --watch --approved-by ada" in calls(folder)
    assert told["locked"]
    assert told["reports"] == [".platformops/reports/*.xml"]


@pytest.mark.real
def test_a_failing_stage_of_the_jenkinsfile_ends_it_and_runs_post(jenkins):
    told, folder = jenkins["failing"]
    assert told["states"]["evaluate"] == "failed"
    assert "release" not in told["states"]
    assert not [call for call in calls(folder) if "release" in call]
    assert told["post"] == ["failure"]
    assert told["reports"], "reports of a failed build are the ones that people want"


@pytest.mark.real
def test_the_jenkinsfile_of_another_branch_makes_a_model_and_delivers_none(jenkins):
    told, _ = jenkins["branch"]
    assert told["error"] is None
    skipped = [name for name, state in told["states"].items() if state == "skipped"]
    assert skipped == ["deploy-test", "smoke", "approve", "release", "verify"]


@pytest.mark.real
def test_a_directive_that_jenkins_does_not_know_is_refused(jenkins):
    assert jenkins["misspelt"][0]["error"] == "Refused: Pipeline has no stagess"


@pytest.fixture(scope="module")
def gitlab(tmp_path_factory):
    """Runs the written file in a repository of its own under gitlab-ci-local; exit code, jobs that passed, folder."""
    executor, root = tool("gitlab-ci-local"), tmp_path_factory.mktemp("gitlab")

    def run(name, failing="nothing fails", branch="main"):
        folder = furnished(root / name)
        (folder / "failing").write_text(failing)
        (folder / ".gitlab-ci.yml").write_text(written(SYSTEMS["gitlab"], PIPELINE, None))
        (folder / ".gitignore").write_text(".gitlab-ci-local/\nbin/\ncalls\nfailing\n")
        git(folder, "init", "-q", "-b", branch)
        git(folder, "add", ".")
        git(folder, "commit", "-qm", "first")
        git(folder, "remote", "add", "origin", "https://git.example/team/digits.git")
        git(folder, "update-ref", "refs/remotes/origin/main", "HEAD")
        git(folder, "symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main")
        code, out = ran(
            executor, "--force-shell-executor", "--no-shell-isolation", "--no-color", "--manual", "approve",
            "--variable", "GITLAB_USER_LOGIN=ada", folder=folder, HOME=str(folder),
            PATH=f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        )  # fmt: skip
        words = [line.split()[:2] for line in out.splitlines()]
        return code, [name for name in NAMES if ["PASS", name] in words], folder

    return run


@pytest.mark.real
def test_the_gitlab_file_runs_all_stages_and_hands_the_approver_on(gitlab):
    code, passed, folder = gitlab("good")
    assert (code, passed) == (0, NAMES)
    assert "platformops release configs/digits.yaml --watch --approved-by ada" in calls(folder)


@pytest.mark.real
def test_a_failing_gate_ends_the_gitlab_pipeline_before_anything_is_deployed(gitlab):
    code, passed, folder = gitlab("failing", failing="--strict")
    assert (code, passed) == (1, NAMES[: NAMES.index("evaluate")])
    assert not [call for call in calls(folder) if "release" in call]


@pytest.mark.real
def test_the_gitlab_file_of_another_branch_makes_a_model_and_delivers_none(gitlab):
    code, passed, _ = gitlab("branch", branch="topic")
    assert (code, passed) == (0, NAMES[: NAMES.index("deploy-test")])


def travis(tree, **given):
    return run_build(written(SYSTEMS["travis"], PIPELINE, None), tree, **given)


def test_the_travis_file_runs_all_stages_once_somebody_approved(tree):
    assert travis(tree, APPROVED_BY="ada").states == dict.fromkeys(NAMES, "passed")
    assert "platformops release configs/digits.yaml --watch --approved-by ada" in calls(tree)


def test_the_travis_file_goes_no_further_than_the_test_environment_by_itself(tree):
    states = travis(tree).states
    assert [name for name, state in states.items() if state == "skipped"] == ["approve", "release", "verify"]
    assert [n for n, state in travis(tree, branch="topic").states.items() if state == "passed"][-1] == "evaluate"


def test_a_failing_install_is_an_error_on_travis_and_a_failing_line_lets_the_others_run(tree):
    (tree / "failing").write_text("pip install")
    assert travis(tree).states == {"lint": "errored"}
    (tree / "failing").write_text("ci check")
    build = travis(tree)
    assert build.states == {"lint": "failed"}
    assert build.lines[-1] == "ruff check ."


def test_a_failing_gate_ends_the_travis_build_before_anything_is_deployed(tree):
    (tree / "failing").write_text("--strict")
    assert travis(tree, APPROVED_BY="ada").states["evaluate"] == "failed"
    assert not [call for call in calls(tree) if "release" in call]
