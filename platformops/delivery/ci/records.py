"""Plain records of a delivery pipeline: what every CI system's file says in its own words."""

from __future__ import annotations

from dataclasses import dataclass

FOLDER = ".platformops"
"""What a pipeline leaves in the working tree; version control's answers leave it out."""
REPORTS = f"{FOLDER}/reports"
PACKAGES = f"{FOLDER}/dist"
APPROVE = "approve"
APPROVED_BY = "APPROVED_BY"
"""The variable with the name of whoever let a release go on."""


@dataclass(frozen=True, slots=True)
class CiStage:
    """One stage: shell lines, each of which may fail by itself."""

    name: str
    script: tuple[str, ...]
    environment: str = ""
    """It changes this environment, so only one at a time runs, and none is interrupted."""
    on_branch: bool = False
    """Only commits of the pipeline's branch come so far."""
    is_manual: bool = False
    """Waits for a person."""
    uses_cluster: bool = False
    """Gets the secrets."""
    keeps: tuple[str, ...] = ()
    """Folders that later stages and people want."""
    has_junit: bool = False
    has_metrics: bool = False


@dataclass(frozen=True, slots=True)
class CiPipeline:
    """Stages in their order; a failing one ends the pipeline."""

    system: str
    spec: str
    """Path of the spec file from the top of the working tree."""
    branch: str
    image: str
    install: tuple[str, ...]
    secrets: tuple[str, ...]
    timeout_s: float
    stages: tuple[CiStage, ...]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at, for a report."""

    name: str
    passed: bool
    reason: str
    seconds: float = 0.0
