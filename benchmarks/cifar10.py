"""Accuracy on the CIFAR-10 test files and seconds of training, through the whole platform, on this machine.

    python benchmarks/cifar10.py [--short]

`--short` trains for one minute instead of as long as configs/cifar10.yaml says, and asks for less.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
SHORT = ("--set", "train.time_limit_s=60", "--set", "train.epochs=2", "--set", "gates.accuracy='>= 0.4'")
TARGETS = {False: {"accuracy": 0.82, "train_s": 900.0}, True: {"accuracy": 0.5, "train_s": 75.0}}


def main() -> int:
    """Prints the table and the JSON line; 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="under two minutes of training")
    is_short = parser.parse_args().short
    targets = TARGETS[is_short]
    with tempfile.TemporaryDirectory(prefix="cifar10-") as folder:
        environment = _environment(Path(folder))
        try:
            run = ["run", "configs/cifar10.yaml", "--json", *(SHORT if is_short else ())]
            document = _platformops(run, environment)
            models = _platformops(["models", "--json"], environment)
        finally:
            _platformops(["down", "--json"], environment)
    figures = _figures(document, models)
    passed = figures["accuracy"] >= targets["accuracy"] and figures["train_s"] <= targets["train_s"]
    for name, value in figures.items():
        print(f"{name:<22}{value:>10.4g}   {_limit(name, targets)}")
    print(json.dumps({"name": "cifar10", "figures": figures, "targets": targets, "passed": passed}))
    return 0 if passed else 1


def _environment(folder: Path) -> dict[str, str]:
    data = os.environ.get("PLATFORMOPS_DATA") or str(PROJECT.parent / "shared" / "data")
    return dict(os.environ) | {"PLATFORMOPS_HOME": str(folder / "home"), "PLATFORMOPS_DATA": data}


def _platformops(arguments: list[str], environment: dict[str, str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "platformops.cli.main", *arguments]
    done = subprocess.run(command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    document: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return document


def _figures(document: dict[str, Any], models: dict[str, Any]) -> dict[str, float]:
    training = models["models"][0]["params"]["training"]
    metrics = document["metrics"]
    seconds = {step["name"]: step["seconds"] for step in document["steps"]}
    return {
        "accuracy": metrics["accuracy"],
        "train_s": training["train_s"],
        "precision_macro": metrics["precision_macro"],
        "recall_macro": metrics["recall_macro"],
        "epochs": training["epochs"],
        "prepare_step_s": seconds["prepare"],
        "train_step_s": seconds["train"],
        "evaluate_step_s": seconds["evaluate"],
        "load_1min": os.getloadavg()[0],
    }


def _limit(name: str, targets: dict[str, float]) -> str:
    if name not in targets:
        return ""
    return f"{'at least' if name == 'accuracy' else 'at most'} {targets[name]:g}"


if __name__ == "__main__":
    sys.exit(main())
