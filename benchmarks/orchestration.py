"""What orchestration costs: a cached re-run from a cold start, and what the runner adds to a step that does nothing.

python benchmarks/orchestration.py [--short]

`cached_rerun_s` is the wall time of `platformops run SPEC --json` as a fresh process, five stages, all cached.
`ms_per_step` is the time a 1,000-step chain of no-ops takes, each with its lease, worker call, artifact made durable
and journal entry, less a bare loop over the same function; divided by the steps.
Both are the best of several: whatever else runs on the machine can only add to them. The medians stand beside.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from platformops.clock import SystemClock
from platformops.home import home_at
from platformops.pipeline.identity import FileIdentity
from platformops.pipeline.launcher import WorkerLauncher
from platformops.pipeline.plan import make_plan
from platformops.pipeline.process import this_owner
from platformops.pipeline.records import RunState, Stage, StageContext
from platformops.pipeline.runner import run_plan
from platformops.store.artifacts import Artifacts
from platformops.store.open import open_store

TARGETS = {"cached_rerun_s": 0.6, "ms_per_step": 15.0, "help_s": 0.3}
STRETCH = {"cached_rerun_s": 0.25, "ms_per_step": 3.0}
STAGES = "def nothing(context, number=0):\n    return None\n"
SPEC = """system: bench
stages:
  - {name: fetch, uses: "stages:nothing", sources: [rows.csv]}
  - {name: clean, uses: "stages:nothing", needs: [fetch]}
  - {name: split, uses: "stages:nothing", needs: [clean]}
  - {name: fit, uses: "stages:nothing", needs: [split]}
  - {name: report, uses: "stages:nothing", needs: [fit, split]}
"""
HEAVY = ("ray", "torch", "pandas", "sklearn", "numpy", "sqlalchemy", "fsspec")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="fewer repetitions; under a minute")
    short = parser.parse_args().short
    with tempfile.TemporaryDirectory(prefix="orchestration-") as folder:
        cached = cached_rerun(Path(folder) / "cached", times=10 if short else 30)
        steps = per_step(Path(folder) / "steps", num_steps=1000, times=2 if short else 5)
    figures = {**cached, **steps}
    passed = all(figures[name] <= limit for name, limit in TARGETS.items())
    print_table(figures)
    print(json.dumps({"name": "orchestration", "figures": figures, "targets": TARGETS, "passed": passed}))
    return 0 if passed else 1


def cached_rerun(folder: Path, *, times: int) -> dict[str, float]:
    project = folder / "project"
    project.mkdir(parents=True)
    (project / "stages.py").write_text(STAGES)
    (project / "rows.csv").write_text("1,2\n" * 1000)
    (project / "bench.yaml").write_text(SPEC)
    environment = {**os.environ, "PLATFORMOPS_HOME": str(folder / "home")}
    fresh_s = _run_verb(project, environment, cached=False)
    time.sleep(2.5)  # digests of files are remembered once the files are older than two seconds
    _run_verb(project, environment, cached=True)
    taken = [_run_verb(project, environment, cached=True) for _ in range(times)]
    return {
        "cached_rerun_s": round(min(taken), 4),
        "cached_rerun_median_s": round(statistics.median(taken), 4),
        "help_s": round(min(_help() for _ in range(times)), 4),
        "bare_python_s": round(min(_bare_python() for _ in range(times)), 4),
        "fresh_run_s": round(fresh_s, 4),
    }


def _run_verb(project: Path, environment: Mapping[str, str], *, cached: bool) -> float:
    program = (
        "import sys; from platformops.cli.main import main; code = main(['run', 'bench.yaml', '--json'])\n"
        f"heavy = sorted(set({HEAVY!r}) & set(sys.modules)); assert not heavy, heavy; sys.exit(code)"
    )
    begin = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", program], cwd=project, env=environment, capture_output=True, text=True)
    taken = time.perf_counter() - begin
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert [step["cached"] for step in answer["steps"]] == [cached] * 5, answer
    return taken


def _help() -> float:
    begin = time.perf_counter()
    program = [sys.executable, "-m", "platformops.cli.main", "--help"]
    subprocess.run(program, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def _bare_python() -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.perf_counter() - begin


def per_step(folder: Path, *, num_steps: int, times: int) -> dict[str, float]:
    runs, reruns = zip(*(_chain(folder / str(turn), num_steps) for turn in range(times)), strict=True)
    bare_s = _bare_loop(folder / "0", num_steps)
    return {
        "ms_per_step": round((min(runs) - bare_s) / num_steps * 1000, 3),
        "ms_per_step_median": round((statistics.median(runs) - bare_s) / num_steps * 1000, 3),
        "ms_per_cached_step": round(min(reruns) / num_steps * 1000, 3),
    }


def _chain(folder: Path, num_steps: int) -> tuple[float, float]:
    """Seconds of a first run, planning included, and of a second one that finds everything cached."""
    folder.mkdir(parents=True)
    (folder / "stages.py").write_text(STAGES)
    home = home_at(folder / "home")
    home.root.mkdir()
    stages = [
        Stage(f"s{number}", "stages:nothing", (f"s{number - 1}",) if number else (), {"number": number})
        for number in range(num_steps)
    ]
    return _timed(folder, stages), _timed(folder, stages)


def _timed(folder: Path, stages: list[Stage]) -> float:
    home, clock = home_at(folder / "home"), SystemClock()
    begin = time.perf_counter()
    store = open_store(home.store_url)
    identity = FileIdentity(root=folder, data_root=None, store=store, clock=clock)
    launcher = WorkerLauncher(environment=dict(os.environ), clock=clock)
    try:
        result = run_plan(
            make_plan("bench", stages, identity=identity),
            store=store,
            artifacts=Artifacts(home.artifacts_url, cache=home.cache),
            home=home,
            clock=clock,
            launcher=launcher,
            owner=this_owner(),
            root=folder,
            identity=identity,
        )
    finally:
        launcher.close()
        store.close()
    assert result.state is RunState.SUCCEEDED, result.reason
    return time.perf_counter() - begin


def _bare_loop(folder: Path, num_steps: int) -> float:
    spec = importlib.util.spec_from_file_location("bare_stages", folder / "stages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    context = StageContext({}, folder, folder, lambda ratio, message, **figures: None)
    begin = time.perf_counter()
    for number in range(num_steps):
        module.nothing(context, number=number)
    return time.perf_counter() - begin


def print_table(figures: Mapping[str, float]) -> None:
    load = os.getloadavg()[0]
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load {load:.2f}")
    print(f"{'figure':<24}{'measured':>12}{'target':>10}{'stretch':>10}")
    for name, value in figures.items():
        print(f"{name:<24}{value:>12.4f}{TARGETS.get(name, ''):>10}{STRETCH.get(name, ''):>10}")


if __name__ == "__main__":
    sys.exit(main())
