"""The stages of a spec's delivery pipeline: one definition for every CI system, and for the laptop."""

from __future__ import annotations

import shlex

from platformops.delivery.ci.records import APPROVE, APPROVED_BY, FOLDER, PACKAGES, REPORTS, CiPipeline, CiStage
from platformops.spec.conditions import duration_s
from platformops.spec.environments import PRODUCTION, TEST
from platformops.spec.types import PlatformSpec


def pipeline_of(spec: PlatformSpec, path: str) -> CiPipeline:
    """The pipeline of the spec at `path`, seen from the top of the working tree."""
    return CiPipeline(
        system=spec.system,
        spec=path,
        branch=spec.ci.branch,
        image=spec.ci.image,
        install=spec.ci.install,
        secrets=spec.ci.secrets,
        timeout_s=duration_s(spec.ci.timeout),
        stages=(*_made(spec, shlex.quote(path)), *(_delivered(spec, shlex.quote(path)) if spec.app else ())),
    )


def _made(spec: PlatformSpec, file: str) -> tuple[CiStage, ...]:
    """From the code to an evaluated model, or to the end of a pipeline without one."""
    training = (
        CiStage("train", (f"platformops run {file} --until train",), uses_cluster=True),
        CiStage(
            "evaluate",
            (f"platformops run {file} --strict --report {REPORTS}",),
            uses_cluster=True,
            keeps=(REPORTS,),
            has_junit=True,
            has_metrics=True,
        ),
    )
    running = (CiStage("run", (f"platformops run {file}",), uses_cluster=True),)
    return (
        CiStage("lint", ("platformops ci check", *spec.ci.lint)),
        CiStage("test", (f"platformops plan {file}", *spec.ci.test), keeps=(REPORTS,), has_junit=True),
        CiStage("build", (f"platformops build {file} --to {PACKAGES}",), keeps=(PACKAGES,)),
        *(training if spec.app else running),
    )


def _delivered(spec: PlatformSpec, file: str) -> tuple[CiStage, ...]:
    """From an evaluated model to production: tried beside it first, then let through by a person, then under guard."""
    smoke = f"platformops ci smoke {file} --requests {spec.ci.requests} --report {REPORTS}"
    approved = f'echo "approved by ${APPROVED_BY}"'
    released = f'platformops release {file} --watch --approved-by "${APPROVED_BY}"'
    return (
        CiStage(
            "deploy-test",
            (f"platformops release {file} --environment {TEST} --watch",),
            environment=TEST,
            on_branch=True,
            uses_cluster=True,
        ),
        CiStage(
            "smoke",
            (f"{smoke} --environment {TEST}",),
            on_branch=True,
            uses_cluster=True,
            keeps=(REPORTS,),
            has_junit=True,
        ),
        CiStage(APPROVE, (approved,), on_branch=True, is_manual=True),
        CiStage("release", (released,), environment=PRODUCTION, on_branch=True, uses_cluster=True),
        CiStage(
            "verify",
            (f"{smoke} --or-rollback",),
            environment=PRODUCTION,
            on_branch=True,
            uses_cluster=True,
            keeps=(REPORTS,),
            has_junit=True,
        ),
    )


def made_before(pipeline: CiPipeline) -> tuple[CiStage, ...]:
    """Stages up to the approval: between them and it, a person's own stages stand."""
    names = [stage.name for stage in pipeline.stages]
    return pipeline.stages[: names.index(APPROVE)] if APPROVE in names else pipeline.stages


def made_after(pipeline: CiPipeline) -> tuple[CiStage, ...]:
    """The approval and what follows."""
    return pipeline.stages[len(made_before(pipeline)) :]


APPROVAL_FILE = f"{FOLDER}/approval.env"
