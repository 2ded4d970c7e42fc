"""The pipeline as `.travis.yml`.

Travis knows no manual step and no lock: production is reached only by a build that a person triggers with the variable
APPROVED_BY, and two of them at once are kept apart by the platform itself, which refuses the second release.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from platformops.delivery.ci.heading import heading
from platformops.delivery.ci.records import APPROVE, APPROVED_BY, CiPipeline, CiStage
from platformops.delivery.ci.region import Region
from platformops.delivery.ci.stages import made_after, made_before
from platformops.delivery.ci.yaml_text import block, scalar

FILE = ".travis.yml"
_OWN_STAGE = re.compile(r"^\s*-?\s*stage:\s*['\"]?(?P<name>[^'\"#\n]+?)['\"]?\s*(?:#.*)?$", re.MULTILINE)


def travis_regions(pipeline: CiPipeline, own: str) -> tuple[Region, ...]:
    """The file's one region; it ends within `jobs.include`, where a person's own jobs follow."""
    secrets = "Its secrets are hidden variables of the repository's settings"
    jobs = "\n".join(_job(stage) for stage in pipeline.stages)
    stages = "\n".join(_stages(pipeline, own))
    release = f"# To release: trigger a build of {pipeline.branch} with the variable {APPROVED_BY} set to your name.\n"
    text = f"""\
{heading(pipeline, "travis", secrets)}
{release if made_after(pipeline) else ""}language: python
os: linux
dist: jammy
python: "3.11"
cache: {{pip: true}}
install:
{block(pipeline.install, "  ")}
stages:
{stages}
jobs:
  include:
{jobs}"""
    return (Region(text, end_indent="    "),)


def _stages(pipeline: CiPipeline, own: str) -> Sequence[str]:
    ours = {stage.name for stage in pipeline.stages}
    found = dict.fromkeys(match["name"].strip() for match in _OWN_STAGE.finditer(own))
    return [
        *(_stage(stage, pipeline, is_approved=False) for stage in made_before(pipeline)),
        *(f"  - {scalar(name)}" for name in found if name not in ours),
        *(_stage(stage, pipeline, is_approved=True) for stage in made_after(pipeline)),
    ]


def _stage(stage: CiStage, pipeline: CiPipeline, *, is_approved: bool) -> str:
    if not stage.on_branch:
        return f"  - {stage.name}"
    condition = f"branch = {pipeline.branch} AND type != pull_request"
    if is_approved:
        condition += f" AND env({APPROVED_BY}) IS present"
    return f"  - name: {stage.name}\n    if: {condition}"


def _job(stage: CiStage) -> str:
    name = "who approved" if stage.name == APPROVE else stage.name
    return f"    - stage: {stage.name}\n      name: {name}\n      script:\n{block(stage.script, '        ')}"
