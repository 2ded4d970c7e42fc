"""From a drift to a promoted model with no hand: a live system, its pictures grow dark, and nothing is typed any more.

    python benchmarks/drift_loop_live.py [--short] [--home DIR]

`platformops up` brings digits up on a Ray of its own. Steady requests follow, each with its truth a moment later; then
every picture has a third of its light. The clock runs from the first dark picture to the instant at which a model
that the loop trained has all traffic. By the spec steps and waits of the release are short and its margins wide, which
a system with 80 requests a second can afford: proof takes requests. They go on all the time, and none may be lost.
`--short` is the same, as there is nothing to leave out.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.live_system import LiveSystem, live
from platformops.cli.load import Load, Rows
from platformops.clock import SystemClock
from platformops.delivery.drift_loop import DriftLoop, LoopState
from platformops.delivery.retraining import load_loop
from platformops.delivery.systems import load_system, rollouts

SYSTEM = "digits"
SPEC = """\
system: digits
app: image
data:
  source: sklearn://digits
  prepare: [{resize: 8}, {crop: center}, {normalize: auto}]
train: {model: small_cnn, epochs: 4, batch_size: 64, lr: 0.1}
gates:
  accuracy: ">= 0.9"
  recall_macro: ">= champion - 0.02 at 95%"
  p99_ms: "<= 1000"
  parity: exact
release: {steps: [shadow, 50%, 100%], min_bake: 2s, margins: {errors: 1%, latency: 30%}}
serve: {threads: 1, slo: {p99_ms: 1000}}
watch: {drift: auto, retrain: true, cooldown: 1m}
"""
RATE_PER_S, CONNECTIONS = 80.0, 3
STEADY_S = 48.0
"""Of pictures as they were: 200 sampled answers are the reference, and 5 a second are sampled."""
LONGEST_S = 330.0
"""From the drift to the end of the loop."""
LIGHT = 0.35
JUDGED = 400
TARGETS = {"is_promoted": True, "lost": "== 0", "error_after": "< error_before"}


def pictures(count: int, *, light: float, seed: int) -> Rows:
    """Digits as PNG, each a little different from all others."""
    import cv2
    from sklearn.datasets import load_digits

    found, luck = load_digits(), np.random.default_rng(seed)
    chosen = luck.integers(0, len(found.target), count)
    noisy = found.images[chosen] * 15.9 + luck.normal(0, 4, (count, 8, 8))
    images = np.clip(noisy * light, 0, 255).astype(np.uint8)
    contents = [cv2.imencode(".png", image)[1].tobytes() for image in images]
    return Rows(contents, [str(label) for label in found.target[chosen]])


def error_of(system: LiveSystem, rows: Rows) -> float:
    """Share of `rows` that the system answers wrongly now."""
    import httpx

    headers = {"Authorization": f"Bearer {system.key()}", "Content-Type": "image/png"}
    wrong = 0
    with httpx.Client(headers=headers, timeout=30.0, trust_env=False) as client:
        for content, label in zip(rows.contents, rows.labels, strict=True):
            answer = client.post(f"{system.address}/predict", content=content).raise_for_status()
            wrong += answer.json()["predictions"][0]["label"] != label
    return wrong / len(rows.labels)


def followed(system: LiveSystem, began: float, *, until: Callable[[DriftLoop], bool]) -> dict[str, float]:
    """Seconds from the drift to each state of the loop, and to each of the release; prints them as they come."""
    reached: dict[str, float] = {}
    with system.store() as store:
        while time.monotonic() - began < LONGEST_S:
            loop, _ = load_loop(store, SYSTEM)
            told = {f"loop {loop.state.value}{' with labels' if loop.gathered_at else ''}": loop.reason}
            if loop.state is LoopState.RELEASING:
                newest = rollouts(store, SYSTEM)[0]
                told[f"{newest.name} {newest.state.value} {newest.steps[newest.step]}"] = newest.reason
            for name in [name for name in told if name not in reached]:
                reached[name] = time.monotonic() - began
                print(f"{reached[name]:>7.1f} s  {name}: {told[name]}"[:200], flush=True)
            if until(loop):
                break
            time.sleep(0.2)
    return reached


def is_over(loop: DriftLoop) -> bool:
    return loop.state in (LoopState.COOLING, LoopState.PAUSED)


def load(system: LiveSystem, rows: Rows) -> Load:
    clock = SystemClock()
    return Load(
        system.address, system.key(), rows, clock, rate_per_s=RATE_PER_S, connections=CONNECTIONS, patience_s=0.0,
        labelled=1.0,
    )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--logs", type=Path, help="a folder for a copy of the platform's logs")
    parser.add_argument("--home", type=Path, help="one in which the same system was live before, to start from a copy")
    asked = parser.parse_args()
    with live(SPEC, SYSTEM, home=asked.home, logs=asked.logs) as system:
        with load(system, pictures(6000, light=1.0, seed=0)) as steady:
            time.sleep(STEADY_S)
        began = time.monotonic()
        with load(system, pictures(20_000, light=LIGHT, seed=1)) as dark:
            error_before = error_of(system, pictures(JUDGED, light=LIGHT, seed=2))
            reached = followed(system, began, until=is_over)
            took_s = time.monotonic() - began
        with system.store() as store:
            loop, _ = load_loop(store, SYSTEM)
            brought, _ = load_system(store, SYSTEM)
        error_after = error_of(system, pictures(JUDGED, light=LIGHT, seed=3))
        print(system.told("why", SYSTEM)["reason"])
    stable = brought.stable.version_name if brought and brought.stable else ""
    print(f"{loop.state.value}: {loop.reason}")
    figures = {
        "minutes": round(took_s / 60, 2),
        "is_promoted": loop.state is LoopState.COOLING and stable == f"{SYSTEM}:v2",
        "version": stable,
        "error_before": round(error_before, 4),
        "error_after": round(error_after, 4),
        "requests": steady.seen.requests + dark.seen.requests,
        "lost": len(steady.seen.lost) + len(dark.seen.lost),
        "reached_s": {name: round(at, 1) for name, at in reached.items()},
        "load_1min": round(os.getloadavg()[0], 2),
    }
    for problem in (*steady.seen.lost, *dark.seen.lost)[:3]:
        print(f"lost: {problem}")
    passed = bool(figures["is_promoted"]) and not figures["lost"] and error_after < error_before
    print(json.dumps({"name": "drift_loop_live", "figures": figures, "targets": TARGETS, "passed": passed}))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
