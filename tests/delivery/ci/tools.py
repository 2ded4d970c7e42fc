"""Programs that check or run the pipeline files of CI systems; a test that lacks one skips and names it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from platformops.delivery.ci.stages import pipeline_of
from platformops.spec.types import PlatformSpec

BESIDE = Path(sys.executable).parent
SPEC = PlatformSpec.model_validate_json("""{
  "system": "digits", "app": "image", "data": {"source": "sklearn://digits"}, "gates": {"accuracy": ">= 0.9"},
  "ci": {"lint": ["ruff check ."], "test": ["python -m pytest -q --junitxml=.platformops/reports/unit.xml"]}
}""")
PIPELINE = pipeline_of(SPEC, "configs/digits.yaml")


def tool(name):
    """The program's path; skips the test where it is not installed."""
    found = shutil.which(name, path=os.pathsep.join([str(BESIDE), os.environ.get("PATH", "")]))
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def ran(*command, folder=None, **environment):
    """What a program answered: exit code and everything that it printed."""
    done = subprocess.run(
        [str(part) for part in command], cwd=folder, env={**os.environ, **environment}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout
