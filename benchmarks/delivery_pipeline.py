"""From a commit to production by the written pipeline, on a live cluster: killed at stage boundaries, then by GitLab.

First `platformops ci run` is killed as each stage begins and started again, until it ends: how many versions and
releases came of it? Then the written `.gitlab-ci.yml` runs under gitlab-ci-local, an executor of such files, from lint
to the verified release; and again with a gate that no model passes, which must end it before anything is deployed.
gitlab-ci-local is looked for in PATH (npm package of that name); without it that part is left out and said to be.

`--part image` builds the image with all that it requires on an image `--base` that is there, and runs it: some seven
gigabytes, and minutes. Where the build reaches packages only by a mirror or a folder, say so to buildah in a
containers.conf (CONTAINERS_CONF) that mounts them and a pip.conf.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from platformops.delivery.records import RolloutState
from platformops.delivery.systems import rollouts
from platformops.registry.registry import list_versions
from platformops.store.open import open_store
from platformops.store.records import Store

Found = TypeVar("Found")
PROJECT = Path(__file__).resolve().parents[1]
TARGETS = {
    "stages_killed": "all",
    "versions": 1,
    "releases": 1,
    "gitlab_stages_passed": "all",
    "releases_after_gitlab": 1,
    "failing_gate_stages_after": 0,
    "failing_gate_releases": 0,
    "image_answers": True,
    "image_runs_as": "1000",
}
SPEC = """\
system: digits
app: image
data:
  source: sklearn://digits
  prepare: [{resize: 8}, {crop: center}, {normalize: auto}]
train: {model: small_cnn, epochs: 8, batch_size: 64, lr: 0.1}
gates: {accuracy: ">= 0.9", parity: exact}
serve: {slo: {p99_ms: 1000, errors: 1%}}
environments: {test: {}, production: {approve: [ada]}}
ci: {install: ["true"]}
"""
STAGES = ["lint", "test", "build", "train", "evaluate", "deploy-test", "smoke", "release", "verify"]
"""Those that do something; the approval between them is a person's."""
LONGEST_S = 540


class Project:
    """A Git repository with the digits system and its pipeline file, and a home of its own."""

    def __init__(self, root: Path) -> None:
        self.tree, self.home = root / "tree", root / "home"
        for folder in (self.tree, root / "bin", root / "user"):
            folder.mkdir(parents=True)
        program = root / "bin" / "platformops"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m platformops "$@"\n')
        program.chmod(0o755)
        self.environment = {
            **{name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ},
            "PATH": f"{root / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(root / "user"),
            "PYTHONPATH": str(PROJECT),
            "PLATFORMOPS_HOME": str(self.home),
            "OMP_NUM_THREADS": "1",
        }
        (self.tree / "digits.yaml").write_text(SPEC)
        (self.tree / ".gitignore").write_text(".gitlab-ci-local/\n")
        self.git("init", "-q", "-b", "main")
        self.platformops("ci", "write", "gitlab")
        self.commit("the system and its pipeline")
        self.git("remote", "add", "origin", "https://git.example/team/digits.git")
        self.git("update-ref", "refs/remotes/origin/main", "HEAD")
        self.git("symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main")

    def git(self, *arguments: str) -> None:
        settings = ("-c", "user.name=ada", "-c", "user.email=ada@git.example")
        subprocess.run(["git", *settings, *arguments], cwd=self.tree, check=True, stdout=subprocess.DEVNULL)

    def commit(self, why: str) -> None:
        self.git("add", ".")
        self.git("commit", "-qm", why)

    def platformops(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "platformops", *arguments], cwd=self.tree, env=self.environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=check, timeout=LONGEST_S,
        )  # fmt: skip

    def versions(self, system: str) -> int:
        return len(self._read(lambda store: list_versions(store, system)))

    def releases(self, system: str) -> int:
        """Rollouts that came to an end with the traffic."""
        return sum(r.state is RolloutState.PROMOTED for r in self._read(lambda store: rollouts(store, system)))

    def _read(self, ask: Callable[[Store], Sequence[Found]]) -> Sequence[Found]:
        store = open_store(f"sqlite:///{self.home / 'store.db'}")
        try:
            return ask(store)
        finally:
            store.close()


def killed_at(project: Project, stage: str) -> bool:
    """Runs the pipeline and kills it, with all that it started, as `stage` begins; whether it came so far."""
    process = subprocess.Popen(
        [sys.executable, "-m", "platformops", "ci", "run", "--approved-by", "ada", "--json"], cwd=project.tree,
        env=project.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        print(f"    {line.rstrip()}"[:160], flush=True)
        if line.startswith(f"{stage}: ") and "platformops" in line:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return True
    process.wait()
    return False


def crash_part(project: Project, stages: Sequence[str]) -> dict[str, object]:
    killed = []
    for stage in stages:
        began = time.monotonic()
        if killed_at(project, stage):
            killed.append(stage)
        print(f"killed as {stage} began, after {time.monotonic() - began:.0f} s", flush=True)
    ended = project.platformops("ci", "run", "--approved-by", "ada", "--json", check=False)
    print(f"undisturbed run: exit {ended.returncode}")
    return {
        "stages_killed": len(killed),
        "killed_at": " ".join(killed),
        "finished": ended.returncode == 0,
        "versions": project.versions("digits"),
        "versions_test": project.versions("digits-test"),
        "releases": project.releases("digits"),
        "releases_test": project.releases("digits-test"),
    }


def gitlab(project: Project, program: str) -> tuple[int, str]:
    variables = ("GITLAB_USER_LOGIN=ada", "GITLAB_CI=true")
    options = [part for variable in variables for part in ("--variable", variable)]
    done = subprocess.run(
        [program, "--force-shell-executor", "--no-shell-isolation", "--manual", "approve", "--no-color", *options],
        cwd=project.tree, env=project.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, check=False, timeout=LONGEST_S,
    )  # fmt: skip
    print("\n".join(f"    {line}" for line in done.stdout.splitlines()[-60:]))
    return done.returncode, done.stdout


def _passed(out: str, stages: Sequence[str]) -> list[str]:
    """Stages that the executor's summary calls passed."""
    words = {tuple(line.split()[:2]) for line in out.splitlines()}
    return [stage for stage in stages if ("PASS", stage) in words]


def gitlab_part(project: Project, program: str, stages: Sequence[str]) -> dict[str, object]:
    code, out = gitlab(project, program)
    passed = _passed(out, stages)
    releases = project.releases("digits")
    (project.tree / "digits.yaml").write_text(SPEC.replace(">= 0.9", ">= 1.5"))
    project.platformops("ci", "write", "gitlab")
    project.commit("a gate that no model passes")
    failing_code, failing_out = gitlab(project, program)
    later = set(_passed(failing_out, stages)) & set(stages[stages.index("deploy-test") :])
    return {
        "gitlab_exit": code,
        "gitlab_stages_passed": len(passed),
        "releases_after_gitlab": releases,
        "failing_gate_exit": failing_code,
        "failing_gate_stages_after": len(later),
        "failing_gate_releases": project.releases("digits") - releases,
    }


def image_part(project: Project, base: str) -> dict[str, object]:
    """Built as a user builds it, then asked for its version and who it runs as."""
    began, tag, buildah = time.monotonic(), "platformops-benchmark:1", ("buildah", "--storage-driver", "vfs")
    build = [sys.executable, "-m", "platformops", "build", "digits.yaml", "--base", base, "--image", tag]
    subprocess.run(build, cwd=project.tree, env={**os.environ, **project.environment}, check=True)
    seconds = time.monotonic() - began
    container = _said(*buildah, "from", tag)
    within = (*buildah, "run", "--isolation", "chroot", container)
    try:
        version, user = _said(*within, "platformops", "--version"), _said(*within, "id", "-u")
    finally:
        _said(*buildah, "rm", container)
        size = _said(*buildah, "images", "--format", "{{.Size}}", tag)
        _said(*buildah, "rmi", tag)
    return {"image_answers": version.startswith("platformops "), "image_said": version, "image_runs_as": user,
            "image_size": size, "image_s": round(seconds)}  # fmt: skip


def _said(*command: str) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def live_parts(project: Project, part: str, killed: Sequence[str]) -> dict[str, object]:
    figures = dict[str, object]()
    if part != "gitlab":
        figures |= crash_part(project, killed)
    program = shutil.which("gitlab-ci-local")
    if program and part != "crash":
        figures |= gitlab_part(project, program, [*STAGES[:7], "approve", *STAGES[7:]])
    elif part != "crash":
        print("gitlab-ci-local is not installed: the written file was not run by it")
    models = json.loads(project.platformops("models", "digits", "--json").stdout)["models"]
    return {**figures, "provenance": models[0]["lineage"]["provenance"]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--short", action="store_true", help="kill at four boundaries rather than at all")
    parser.add_argument("--part", choices=["crash", "gitlab", "both", "image"], default="both")
    parser.add_argument("--kill-at", nargs="+", choices=STAGES, default=[], help="kill at these boundaries alone")
    parser.add_argument("--base", default="python:3.11-slim-bookworm", help="image that the image is built on")
    arguments = parser.parse_args()
    killed = arguments.kill_at or (["train", "evaluate", "release", "verify"] if arguments.short else STAGES)
    root = Path(tempfile.mkdtemp(prefix="po-delivery-"))
    project = Project(root)
    try:
        if arguments.part == "image":
            figures = image_part(project, arguments.base)
        else:
            figures = live_parts(project, arguments.part, killed)
    finally:
        project.platformops("down", check=False)
        shutil.rmtree(root, ignore_errors=True)
    wanted = {**TARGETS, "stages_killed": len(killed), "gitlab_stages_passed": len(STAGES) + 1}
    met = {name: figures[name] == target for name, target in wanted.items() if name in figures}
    for name, value in figures.items():
        print(f"{name:28} {value!s:60.60} {'' if met.get(name, True) else f'MISSED, wanted {wanted[name]}'}")
    passed = all(met.values()) and bool(met) and figures.get("finished") is not False
    print(json.dumps({"name": "delivery_pipeline", "figures": figures, "targets": wanted, "passed": passed}))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
