"""Real raylets on this machine that are killed, frozen, slowed and kept busy: how soon it is found, and what it costs.

    python benchmarks/live_faults.py [--short]
    python benchmarks/live_faults.py --parts DIR --part faults    # one part of a few minutes; again for more of it
    python benchmarks/live_faults.py --parts DIR                  # the figures of all parts in DIR

`detect_*_s`: the worst time from the fault to the verdict in the store, of raylets killed (alone, and with every
process of their node), of raylets and whole nodes held still by a signal, and of actors, replicas and ranks that are
held still or hang. `false_actions`: decisions about nodes while ten processes spin on every core.
`false_drains_per_100_node_hours`: nodes condemned, cordoned, moved off or drained for nothing, under the faults and
the hogs. `lost_work_ratio`: seconds of work that a job with a checkpoint a second loses by the faults that both were
struck with, in the mix of ours, over those that it loses under Ray alone. `requests_failed`: of a served application
in planned moves, that is while the node of a replica is drained.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.live_faults_cluster import Site, site, until
from benchmarks.live_faults_jobs import Served
from benchmarks.live_faults_kinds import ROUND, Struck, false_since, strike
from benchmarks.live_faults_places import leaked, slowed
from platformops.health.drills import Wanted
from platformops.health.nodes import Wish

TARGETS: dict[str, float] = {
    "detect_killed_s": 4.0,
    "detect_frozen_s": 8.0,
    "detect_hung_s": 10.0,
    "false_actions": 0,
    "false_drains_per_100_node_hours": 1.0,
    "lost_work_ratio": 0.5,
    "requests_failed": 0,
}
NUM_NODES = 4
"""And the head."""
NUM_HOGS = 10
PART_S = 270.0
"""A part begins nothing new after so long."""
SHORT_KINDS = ("kill_raylet", "kill_node", "freeze_raylet", "freeze_actor")
RAW_ROUND = ("kill_node", "kill_actor", "freeze_actor", "kill_raylet", "freeze_node", "hung_rank", "freeze_raylet")
FULL = ("raw", "raw", "others", "others", "hogs", "hogs", "hogs")
"""And faults until there are enough."""
NUM_FAULTS = 100
KILLED, FROZEN = ("kill_raylet", "kill_node"), ("freeze_raylet", "freeze_node")
HUNG = ("freeze_actor", "freeze_replica", "hung_rank")
CONDEMNS = ("cordon:", "move:", "drain:", "-> dead:", "-> unhealthy:", "-> barred:")


@dataclass
class Part:
    """What one part gave."""

    name: str
    first: int = 0
    """Where in the round of faults it begins."""
    struck: list[Struck] = field(default_factory=list)
    node_s: float = 0.0
    """Of nodes under the controller."""
    hogs_s: float = 0.0
    false_beside_hogs: list[str] = field(default_factory=list)
    moves: int = 0
    asked: int = 0
    failed: int = 0
    """In planned moves."""
    load: float = 0.0
    problem: str = ""
    """What ended it early."""


def faults(made: Site, part: Part) -> None:
    _watched(made)
    began, kinds = time.monotonic(), list(ROUND)
    at = part.first
    while time.monotonic() - began < PART_S:
        _strike(made, part, kinds[at % len(kinds)], at)
        at += 1


def raw(made: Site, part: Part) -> None:
    for number, kind in enumerate(RAW_ROUND):
        _strike(made, part, kind, number, is_raw=True)


def others(made: Site, part: Part) -> None:
    """Replicas killed and held still, nodes of replicas drained, and nodes that are slow and that leak."""
    _watched(made)
    began = time.monotonic()
    with closing(Served()) as app:
        while time.monotonic() - began < 0.5 * PART_S:
            for kind in ("kill_replica", "freeze_replica") * 2:
                _replica(made, part, app, kind)
            _move(made, part, app)
    for befall in (slowed, leaked):
        struck = befall(made)
        _said(struck)
        part.struck.append(struck)


def hogs(made: Site, part: Part) -> None:
    _watched(made)
    time.sleep(8.0)  # a node that has just joined is not condemned, and would prove nothing
    _beside_hogs(made, part, 200.0)


def short(made: Site, part: Part) -> None:
    from platformops.on_ray.controller import stop_controller

    _watched(made)
    for number, kind in enumerate(SHORT_KINDS):
        _strike(made, part, kind, number)
    _watched(made)
    time.sleep(8.0)
    _beside_hogs(made, part, 20.0)
    with closing(Served()) as app:
        _move(made, part, app)
    stop_controller()
    _strike(made, part, "kill_node", len(SHORT_KINDS), is_raw=True)


PARTS: Mapping[str, Callable[[Site, Part], None]] = {
    "faults": faults, "others": others, "hogs": hogs, "raw": raw, "short": short,
}  # fmt: skip


def _watched(made: Site) -> None:
    """The controller runs, and hears every node."""
    from platformops.on_ray.controller import start_controller

    start_controller(made.home)
    until(lambda: all(made.is_heard(node) for node in made.nodes), "all nodes are heard")


def _strike(made: Site, part: Part, kind: str, number: int, *, is_raw: bool = False) -> None:
    struck = strike(made, kind, number, is_raw=is_raw)
    _said(struck)
    part.struck.append(struck)


def _said(struck: Struck) -> None:
    found = "missed" if struck.is_missed else f"found after {struck.found_s} s"
    print(f"{struck.kind:16}{'Ray alone' if struck.is_raw else found:22} lost {struck.lost_s} s", flush=True)
    for false in struck.false:
        print(f"  not asked for: {false}", flush=True)


def _replica(made: Site, part: Part, app: Served, kind: str) -> None:
    pid, node = next(iter(app.replicas.items()))
    began, began_at = time.monotonic(), time.time()
    psutil.Process(pid).send_signal(9 if kind == "kill_replica" else 19)
    found_s, wanted = None, Wanted.LEFT_ALONE
    if kind == "freeze_replica":
        found_s, wanted = until(lambda: made.has_ended(node, pid), kind), Wanted.WORKER_ENDED
    app.replicas = app.wait_for_both({pid})
    found_s = time.monotonic() - began if found_s is None else found_s
    struck = Struck(kind, found_s=round(found_s, 2), false=false_since(made, wanted, node, began_at))
    _said(struck)
    part.struck.append(struck)


def _move(made: Site, part: Part, app: Served) -> None:
    """The node of a replica is drained while clients ask."""
    pid, node = next((pid, node) for pid, node in app.replicas.items() if node in made.nodes)
    asked, failed = app.counted()
    made.wish(node, Wish.DRAINED)
    until(lambda: made.is_dead(node), "the drained node ends")
    time.sleep(2.0)
    app.replicas = app.wait_for_both({pid})
    part.moves, part.asked = part.moves + 1, part.asked + app.asked - asked
    part.failed += app.failed - failed
    print(f"move: {app.asked - asked} requests, {app.failed - failed} failed", flush=True)
    made.remove(node)
    made.add()
    _watched(made)


def _beside_hogs(made: Site, part: Part, duration_s: float) -> None:
    """Decisions about nodes while ten processes want every core."""
    before = len(made.decisions())
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(NUM_HOGS)]
    try:
        time.sleep(duration_s)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    for node, decision in made.decisions()[before:]:
        part.false_beside_hogs.append(f"{node[:12]}: {decision}: {made.told(node)[0].reason}")
        print(f"false action: {part.false_beside_hogs[-1]}", flush=True)
    part.hogs_s += duration_s


def run(name: str, first: int = 0) -> Part:
    part, began = Part(name, first), time.monotonic()
    with site(NUM_NODES) as made:
        try:
            PARTS[name](made, part)
        except SystemExit as error:  # what it gave until then stays
            part.problem = str(error)
            print(f"ended early: {error}", flush=True)
        if name != "raw":
            part.node_s = (time.monotonic() - began) * (NUM_NODES + 1)
    part.load = round(os.getloadavg()[0], 1)
    return part


def figures_of(parts: Sequence[Part]) -> dict[str, float]:
    struck = [one for part in parts for one in part.struck]
    ours = [one for one in struck if not one.is_raw]
    node_hours = sum(part.node_s for part in parts) / 3600.0
    false = [said for one in ours for said in one.false]
    beside_hogs = [said for part in parts for said in part.false_beside_hogs]
    drains = sum(any(what in said for what in CONDEMNS) for said in (*false, *beside_hogs))
    figures = {
        "faults": len(ours),
        "faults_per_1000_node_days": len(ours) / (node_hours / 24.0) * 1000.0,
        "missed": sum(one.is_missed for one in ours) + sum(bool(part.problem) for part in parts),
        "detect_killed_s": _worst(ours, KILLED),
        "detect_frozen_s": _worst(ours, FROZEN),
        "detect_hung_s": _worst(ours, HUNG),
        "hogs_s": sum(part.hogs_s for part in parts),
        "false_actions": len(beside_hogs),
        "false_actions_under_faults": len(false),
        "node_hours": node_hours,
        "false_drains_per_100_node_hours": 100.0 * drains / node_hours,
        "lost_work_ratio": lost_work_ratio(struck),
        "planned_moves": sum(part.moves for part in parts),
        "requests": sum(part.asked for part in parts),
        "requests_failed": sum(part.failed for part in parts),
        "load": statistics.median(part.load for part in parts),
    }
    return {name: round(value, 3) for name, value in figures.items()}


def _worst(struck: Sequence[Struck], kinds: Sequence[str]) -> float:
    return max((one.found_s for one in struck if one.kind in kinds and one.found_s is not None), default=-1.0)


def lost_work_ratio(struck: Sequence[Struck]) -> float:
    """Mean loss of each kind that both were struck with, weighted by how often we were; 1.0 where there is none."""
    ours, alone = _lost(struck, is_raw=False), _lost(struck, is_raw=True)
    kinds = ours.keys() & alone.keys()
    lost = sum(len(ours[kind]) * statistics.mean(ours[kind]) for kind in kinds)
    raw_lost = sum(len(ours[kind]) * statistics.mean(alone[kind]) for kind in kinds)
    return lost / raw_lost if raw_lost else 1.0


def _lost(struck: Sequence[Struck], *, is_raw: bool) -> Mapping[str, list[float]]:
    found: dict[str, list[float]] = {}
    for one in struck:
        if one.is_raw is is_raw and one.lost_s is not None:
            found.setdefault(one.kind, []).append(one.lost_s)
    return found


def tell(parts: Sequence[Part]) -> bool:
    """Prints what the parts gave together; whether every target is met."""
    struck = [one for part in parts for one in part.struck]
    for kind in Counter(one.kind for one in struck):
        ours = [one for one in struck if one.kind == kind and not one.is_raw]
        alone = [one.lost_s for one in struck if one.kind == kind and one.is_raw and one.lost_s is not None]
        found = [one.found_s for one in ours if one.found_s is not None]
        lost = [one.lost_s for one in ours if one.lost_s is not None]
        texts = (_spread("found after", found), _spread("lost", lost), _spread("Ray alone lost", alone))
        print(f"{kind:16}{len(ours):4}  {'; '.join(text for text in texts if text)}")
    figures = figures_of(parts)
    for name, figure in figures.items():
        print(f"{name:32}{figure:>12}" + (f"   target {TARGETS[name]:g}" if name in TARGETS else ""))
    passed = all(figures[name] <= target for name, target in TARGETS.items()) and not figures["missed"]
    print(json.dumps({"name": "live_faults", "figures": figures, "targets": TARGETS, "passed": passed}))
    return passed


def _spread(what: str, seconds: Sequence[float]) -> str:
    return f"{what} {statistics.median(seconds):.1f} s, at most {max(seconds):.1f}" if seconds else ""


def load(folder: Path) -> list[Part]:
    parts = []
    for path in sorted(folder.glob("part-*.json")):
        value = json.loads(path.read_text())
        struck = [Struck(**{**one, "false": tuple(one["false"])}) for one in value["struck"]]
        parts.append(Part(**{**value, "struck": struck}))
    return parts


def keep(folder: Path, name: str) -> None:
    """Runs one more part and leaves it in the folder. Faults go on in their round where the last part ended."""
    folder.mkdir(parents=True, exist_ok=True)
    before = load(folder)
    part = run(name, sum(len(part.struck) for part in before if part.name == name == "faults"))
    (folder / f"part-{len(before):02}-{name}.json").write_text(json.dumps(asdict(part), indent=1))


def whole(folder: Path) -> list[Part]:
    for name in FULL:
        keep(folder, name)
    while sum(not one.is_raw for part in load(folder) for one in part.struck) < NUM_FAULTS:
        keep(folder, "faults")
    return load(folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="one fault of each of four kinds, 20 s of hogs")
    parser.add_argument("--parts", type=Path, help="where parts are kept, to be told together")
    parser.add_argument("--part", choices=[name for name in PARTS if name != "short"], help="run one, beforehand")
    given = parser.parse_args()
    if given.short:
        return 0 if tell([run("short")]) else 1
    if given.parts is None:
        with tempfile.TemporaryDirectory() as folder:
            return 0 if tell(whole(Path(folder))) else 1
    if given.part:
        keep(given.parts, given.part)
    return 0 if tell(load(given.parts)) else 1


if __name__ == "__main__":
    sys.exit(main())
