"""Runs the jobs of a `.travis.yml` by Travis's rules, as its users know them.

Stages in their order, jobs of a stage one by one. A line that fails in `before_install`, `install` or `before_script`
makes the job errored and ends it at once; every line of `script` is run, and any that fails makes the job failed;
`after_success` or `after_failure` and `after_script` change nothing. A stage with a job that is not passed ends the
build.
"""

import os
import re
import subprocess
from dataclasses import dataclass, field

import yaml

FIRST, LAST = ("before_install", "install", "before_script"), ("after_script",)


@dataclass
class Build:
    states: dict[str, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)


def run_build(text, folder, *, branch="main", **variables):
    """What became of each job, by stage, and the lines that were run."""
    config, build = yaml.safe_load(text), Build()
    names = [stage if isinstance(stage, str) else stage["name"] for stage in config.get("stages", [])]
    conditions = {s["name"]: s.get("if", "") for s in config.get("stages", []) if isinstance(s, dict)}
    jobs = config["jobs"]["include"]
    unknown = {job["stage"] for job in jobs} - set(names)
    assert not unknown, f"stages without a place: {unknown}"
    for name in names:
        if not _holds(conditions.get(name, ""), branch, variables):
            build.states[name] = "skipped"
            continue
        for job in (job for job in jobs if job["stage"] == name):
            build.states[name] = _run_job({**config, **job}, folder, variables, build.lines)
            if build.states[name] != "passed":
                return build
    return build


def _run_job(job, folder, variables, told):
    def run(line):
        told.append(line)
        environment = {**os.environ, **variables, "TRAVIS": "true"}
        return subprocess.run(["bash", "-c", line], cwd=folder, env=environment, check=False).returncode

    for phase in FIRST:
        for line in _lines(job.get(phase)):
            if run(line):
                return "errored"
    state = "failed" if any([run(line) for line in _lines(job["script"])]) else "passed"
    for phase in ("after_success" if state == "passed" else "after_failure", *LAST):
        for line in _lines(job.get(phase)):
            run(line)
    return state


def _lines(phase):
    return [phase] if isinstance(phase, str) else list(phase or [])


def _holds(condition, branch, variables):
    """The conditions that the written file uses, and no others."""
    for part in filter(None, condition.split(" AND ")):
        if match := re.fullmatch(r"env\((\w+)\) IS present", part):
            holds = bool(variables.get(match[1]))
        elif match := re.fullmatch(r"branch = (\S+)", part):
            holds = branch == match[1]
        else:
            assert part == "type != pull_request", part
            holds = True
        if not holds:
            return False
    return True
