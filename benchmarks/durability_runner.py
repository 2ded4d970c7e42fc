"""One run of the pipeline that `durability.py` kills: eight steps, then the model version that comes of them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from platformops.clock import SystemClock
from platformops.home import home_at
from platformops.pipeline.identity import FileIdentity
from platformops.pipeline.launcher import WorkerLauncher
from platformops.pipeline.plan import make_plan
from platformops.pipeline.process import this_owner
from platformops.pipeline.records import RunResult, RunState, Stage
from platformops.pipeline.runner import exit_code, run_plan
from platformops.registry.records import Lineage
from platformops.registry.registry import register, resolve_alias, set_alias
from platformops.store.artifacts import Artifacts
from platformops.store.open import open_store
from platformops.store.records import ABSENT, Store

GRAPH = {"a": "", "b": "", "c": "a", "d": "ab", "e": "cd", "f": "e", "g": "b", "h": "fg"}
"""Each step and its parents; c and h share the one worker of the cluster, beside those of the others."""
STEP_S = 0.02


def main(folder: Path) -> int:
    home, clock = home_at(folder / "home"), SystemClock()
    store = open_store(home.store_url)
    identity = FileIdentity(root=folder, data_root=None, store=store, clock=clock)
    stages = [
        Stage(name, "stages:step", tuple(needs), {"name": name, "seconds": STEP_S}, on_cluster=name in "ch")
        for name, needs in GRAPH.items()
    ]
    launcher = WorkerLauncher(environment=dict(os.environ), clock=clock)
    (folder / "started").touch()
    try:
        result = run_plan(
            make_plan("demo", stages, identity=identity),
            store=store,
            artifacts=Artifacts(home.artifacts_url, cache=home.cache),
            home=home,
            clock=clock,
            launcher=launcher,
            owner=this_owner(),
            root=folder,
            identity=identity,
            verify=tuple(GRAPH),
        )
    finally:
        launcher.close()
    if result.state is RunState.SUCCEEDED:
        register_and_promote(store, result, clock.now())
    store.close()
    return exit_code(result)


def register_and_promote(store: Store, result: RunResult, now: float) -> None:
    last = result.steps[-1]
    version = register(
        store,
        model="demo",
        fingerprint=last.fingerprint,
        artifacts={last.name: {"fingerprint": last.fingerprint, "manifest_digest": last.manifest_digest}},
        metrics={},
        params={},
        lineage=Lineage({}, {}, result.run_id, "unknown", False),
        now=now,
    )
    champion = resolve_alias(store, "demo", "champion")
    if champion is None or champion.number != version.number:
        set_alias(store, "demo", "champion", version.number, expect=champion.token if champion else ABSENT)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
