"""What kill -9 costs: a fast pipeline whose processes are killed at random, and every write cut off at every call.

python benchmarks/durability.py [--short] [--kills N]

Each pipeline has eight steps in two worker processes with their guards, ends in a registered model version, and is hit
by one SIGKILL at a random moment, of the runner, of a worker or of a guard; a third of them is hit once more while the
next run recovers. Then the next run has to finish unaided.
`finished` counts the kills whose pipeline came to its end, `steps_repeated` the steps that began again although the
journal had called them done, `versions_extra` what was registered more than once.
`crash_points` and `points_bad` are those of `python -m tests.faults.sweep`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from platformops.home import home_at
from platformops.pipeline.process import children_of
from platformops.registry.registry import list_versions
from platformops.store.artifacts import Artifacts
from platformops.store.open import open_store

PROJECT = Path(__file__).resolve().parents[1]
RUNNER = Path(__file__).with_name("durability_runner.py")
TARGETS = {"steps_repeated": 0, "versions_extra": 0, "artifacts_bad": 0, "points_bad": 0}
NAMES = "abcdefgh"
STAGES = """
import os, time

def step(context, name, seconds):
    with open(context.root / "began", "a") as file:  # one write of one line: whole or not at all
        file.write(name + "\\n")
    time.sleep(seconds)
    (context.output / "out.bin").write_bytes(os.urandom(4096))
    return {"name": name}
"""
WAIT_S = 60.0


@dataclass
class Tally:
    kills: Counter[str]
    """By what was killed."""
    pipelines: int = 0
    finished: int = 0
    steps_repeated: int = 0
    versions_extra: int = 0
    artifacts_bad: int = 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="fewer kills and points; under two minutes")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--kills", type=int, help="so many of them instead")
    asked = parser.parse_args()
    kills, points = (30, ["--points", "400"]) if asked.short else (300, [])
    kills = asked.kills or kills
    with tempfile.TemporaryDirectory(prefix="durability-") as folder:
        tally = kill_pipelines(Path(folder), kills, random.Random(asked.seed))
    swept = sweep([*points, "--seed", str(asked.seed % 1000)])
    figures = {
        "kills": tally.kills.total(),
        "finished": tally.finished,
        "steps_repeated": tally.steps_repeated,
        "versions_extra": tally.versions_extra,
        "artifacts_bad": tally.artifacts_bad,
        "pipelines": tally.pipelines,
        **{f"kills_of_{name}": number for name, number in sorted(tally.kills.items())},
        **swept,
    }
    targets = {
        **TARGETS,
        "kills": kills,
        "finished": figures["kills"],
        **({} if asked.short else {"crash_points": 2000}),
    }
    passed = all(_is_met(name, figures[name], target) for name, target in targets.items())
    print(f"seed {asked.seed}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}")
    for name, value in figures.items():
        print(f"{name:<20}{value:>10}{targets.get(name, ''):>10}")
    print(json.dumps({"name": "durability", "figures": figures, "targets": targets, "passed": passed}))
    return 0 if passed else 1


def _is_met(name: str, value: float, target: float) -> bool:
    return value >= target if name in ("kills", "finished", "crash_points") else value <= target


def kill_pipelines(folder: Path, kills: int, luck: random.Random) -> Tally:
    tally = Tally(Counter())
    begin = time.perf_counter()
    while tally.kills.total() < kills:
        place = folder / str(tally.pipelines)
        _one_pipeline(place, tally, luck)
        tally.pipelines += 1
        shutil.rmtree(place)
        if tally.pipelines % 10 == 0:
            print(f"{tally.kills.total()} kills after {time.perf_counter() - begin:.0f} s", file=sys.stderr)
    return tally


def _one_pipeline(folder: Path, tally: Tally, luck: random.Random) -> None:
    """Killed once or twice, then let be; counts what came of it."""
    folder.mkdir()
    (folder / "stages.py").write_text(STAGES)
    (folder / "home").mkdir()
    seen: dict[str, int] = {}
    mine: list[str] = []
    for _ in range(1 + (luck.random() < 1 / 3)):
        runner = _start(folder)
        if victim := _kill_one(runner, luck):
            mine.append(victim)
        if victim != "runner":
            runner.wait(WAIT_S)
        tally.steps_repeated += _repeated(folder, seen)
    last = _start(folder)
    code = last.wait(WAIT_S)
    tally.steps_repeated += _repeated(folder, seen)
    tally.kills.update(mine)
    if code == 0:
        tally.finished += len(mine)
        tally.artifacts_bad += _bad_artifacts(folder)
        store = open_store(home_at(folder / "home").store_url)
        tally.versions_extra += abs(len(list_versions(store)) - 1)
        store.close()
    else:
        print(f"unfinished after {mine}: {(folder / 'said').read_text()[-2000:]}", file=sys.stderr)


def _start(folder: Path) -> subprocess.Popen[bytes]:
    (folder / "started").unlink(missing_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    with (folder / "said").open("wb") as said:
        runner = subprocess.Popen([sys.executable, RUNNER, folder], env=environment, stdout=said, stderr=said)
    deadline = time.monotonic() + WAIT_S
    while not (folder / "started").exists() and runner.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    return runner


def _kill_one(runner: subprocess.Popen[bytes], luck: random.Random) -> str:
    """What was killed, and gone with all below it on return; empty when the pipeline had ended before its moment."""
    wanted = luck.choice(["runner", "worker", "guard"])
    moment = time.monotonic() + luck.uniform(0.0, 0.5)
    while time.monotonic() < moment:
        time.sleep(0.001)
    while runner.poll() is None:
        guards = children_of(runner.pid)
        workers = [pid for guard in guards for pid in children_of(guard)]
        pids = {"runner": [runner.pid], "worker": workers, "guard": guards}[wanted]
        if pids and _kill(luck.choice(pids)):
            if wanted == "runner":
                runner.wait()
                while any(map(_is_running, [*guards, *workers])):
                    time.sleep(0.001)
            return wanted
        time.sleep(0.001)
    return ""


def _kill(pid: int) -> bool:
    if not _is_running(pid):
        return False
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _repeated(folder: Path, seen: dict[str, int]) -> int:
    """Steps that began since the journal was seen to call them done; then looks at the journal again."""
    path = folder / "began"
    began = Counter(path.read_text().split()) if path.exists() else Counter()
    again = sum(began[name] - times for name, times in seen.items())
    seen.clear()
    seen.update({name: began[name] for name, state, *_ in _steps(folder) if state == "done"})
    return again


def _steps(folder: Path) -> Iterator[tuple[str, str, str, str]]:
    """Name, state, fingerprint and manifest digest of each step that the journal knows."""
    store = open_store(home_at(folder / "home").store_url)
    try:
        for entry in store.scan("step/"):
            value: Mapping[str, object] = entry.value
            fingerprint = entry.key.removeprefix("step/")
            yield str(value["stage"]), str(value["state"]), fingerprint, str(value["manifest_digest"])
    finally:
        store.close()


def _bad_artifacts(folder: Path) -> int:
    """Steps that are not done or whose artifact is not whole, and what was moved aside or left in staging."""
    home = home_at(folder / "home")
    artifacts = Artifacts(home.artifacts_url, cache=home.cache)
    bad = len(NAMES)
    for _, state, fingerprint, digest in _steps(folder):
        bad -= state == "done" and (artifacts.open(fingerprint, digest) / "out.bin").stat().st_size == 4096
    left = [*(home.root / "artifacts" / ".quarantine").glob("*"), *home.scratch.glob("*")]
    return bad + len(left)


def sweep(arguments: list[str]) -> dict[str, int]:
    command = [sys.executable, "-m", "tests.faults.sweep", *arguments]
    done = subprocess.run(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True, check=False)
    *said, last = done.stdout.splitlines()
    print("\n".join(said))
    answer = json.loads(last)
    if "skipped" in answer:
        print(f"no system calls were cut off: {answer['skipped']}")
    return {"crash_points": answer["crash_points"], "points_bad": answer["points_bad"]}


if __name__ == "__main__":
    sys.exit(main())
