"""The pipeline as `.gitlab-ci.yml`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from platformops.delivery.ci.heading import heading
from platformops.delivery.ci.records import APPROVED_BY, FOLDER, REPORTS, CiPipeline, CiStage
from platformops.delivery.ci.region import Region
from platformops.delivery.ci.stages import APPROVAL_FILE, made_after, made_before
from platformops.delivery.ci.yaml_text import block, flow, scalar

FILE = ".gitlab-ci.yml"
_OWN_STAGE = re.compile(r"^\s+stage:\s*['\"]?(?P<name>[^'\"#\n]+?)['\"]?\s*(?:#.*)?$", re.MULTILINE)
_BUILT_IN = (".pre", ".post")


def gitlab_regions(pipeline: CiPipeline, own: str) -> tuple[Region, ...]:
    """The file's one region; stages of a person's `own` jobs come before the approval."""
    jobs = "\n\n".join(_job(stage, pipeline) for stage in pipeline.stages)
    secrets = "Its secrets are masked and protected CI/CD variables of the project"
    return (Region(f"{heading(pipeline, 'gitlab', secrets)}\n{_top(pipeline, own)}\n\n{jobs}"),)


def _top(pipeline: CiPipeline, own: str) -> str:
    return f"""\
stages: {flow(_stages(pipeline, own))}

workflow:
  rules:
    - if: $CI_PIPELINE_SOURCE == "merge_request_event"
    - if: $CI_COMMIT_BRANCH && $CI_OPEN_MERGE_REQUESTS
      when: never
    - if: $CI_COMMIT_BRANCH

default:
  image: {scalar(pipeline.image)}
  interruptible: true
  timeout: {pipeline.timeout_s:.0f} seconds
  before_script:
{block(pipeline.install, "    ")}
  cache:
    key: pip-$CI_COMMIT_REF_SLUG
    fallback_keys: [pip-$CI_DEFAULT_BRANCH]
    paths: [{FOLDER}/cache/pip]

variables:
  PIP_CACHE_DIR: $CI_PROJECT_DIR/{FOLDER}/cache/pip"""


def _stages(pipeline: CiPipeline, own: str) -> Sequence[str]:
    ours = [stage.name for stage in pipeline.stages]
    found = dict.fromkeys(match["name"].strip() for match in _OWN_STAGE.finditer(own))
    theirs = [name for name in found if name not in (*ours, *_BUILT_IN)]
    before = [stage.name for stage in made_before(pipeline)]
    return [*before, *theirs, *(stage.name for stage in made_after(pipeline))]


def _job(stage: CiStage, pipeline: CiPipeline) -> str:
    parts = [f"{stage.name}:", f"  stage: {stage.name}", "  script:", block(_script(stage), "    ")]
    if stage.environment:
        parts += ["  interruptible: false", f"  environment: {stage.environment}"]
        parts += [f"  resource_group: {pipeline.system}-{stage.environment}"]
    if stage.on_branch:
        parts += ["  rules:", f'    - if: $CI_COMMIT_BRANCH == "{pipeline.branch}"']
        parts += ["      when: manual", "      allow_failure: false"] if stage.is_manual else []
    return "\n".join([*parts, *_artifacts(stage)])


def _script(stage: CiStage) -> Sequence[str]:
    """The approver's name travels on as a variable of the following jobs."""
    if not stage.is_manual:
        return stage.script
    return [f"mkdir -p {FOLDER}", f'echo "{APPROVED_BY}=$GITLAB_USER_LOGIN" > {APPROVAL_FILE}']


def _artifacts(stage: CiStage) -> list[str]:
    reports = []
    if stage.has_junit:
        reports.append(f"      junit: {REPORTS}/*.xml")
    if stage.has_metrics:
        reports.append(f"      metrics: {REPORTS}/metrics.txt")
    if stage.is_manual:
        reports.append(f"      dotenv: {APPROVAL_FILE}")
    if not reports and not stage.keeps:
        return []
    kept = [f"    paths: {flow(stage.keeps)}"] if stage.keeps else []
    return ["  artifacts:", "    when: always", *kept, *(["    reports:", *reports] if reports else [])]
