"""The pipeline as a workflow of GitHub Actions."""

from __future__ import annotations

import re
from collections.abc import Sequence

from platformops.delivery.ci.heading import heading
from platformops.delivery.ci.records import APPROVED_BY, REPORTS, CiPipeline, CiStage
from platformops.delivery.ci.region import Region
from platformops.delivery.ci.yaml_text import flow, scalar

FILE = ".github/workflows/platformops.yml"
_APPROVAL = "# Name the reviewers who may approve in the settings of the environment `approval`."
_OWN_JOB = re.compile(r"^  (?P<name>[A-Za-z_][\w-]*):\s*(?:#.*)?$", re.MULTILINE)


def github_regions(pipeline: CiPipeline, own: str) -> tuple[Region, ...]:
    """The file's one region; it ends within `jobs`, where a person's own jobs follow. The approval waits for them."""
    theirs = [match["name"] for match in _OWN_JOB.finditer(own)]
    jobs, before = [], ""
    for stage in pipeline.stages:
        needs = [before] if before else []
        jobs.append(_job(stage, pipeline, [*needs, *(theirs if stage.is_manual else [])]))
        before = stage.name
    approval = f"{_APPROVAL}\n" if any(stage.is_manual for stage in pipeline.stages) else ""
    secrets = "Its secrets are those of the repository or its environments"
    text = f"""\
{heading(pipeline, "github", secrets)}
{approval}name: platformops
on:
  push: {{branches: [{scalar(pipeline.branch)}]}}
  pull_request:
permissions: {{contents: read}}
jobs:
""" + "\n\n".join(jobs)
    return (Region(text, end_indent="  "),)


def _job(stage: CiStage, pipeline: CiPipeline, needs: Sequence[str]) -> str:
    parts = [f"  {stage.name}:", "    runs-on: ubuntu-24.04"]
    parts += [f"    timeout-minutes: {max(1, int(pipeline.timeout_s // 60))}"]
    parts += [f"    needs: {flow(needs)}"] if needs else []
    if stage.on_branch:
        parts += [f"    if: github.ref == 'refs/heads/{pipeline.branch}' && github.event_name == 'push'"]
    if stage.is_manual:
        return "\n".join([*parts, *_approval(stage)])
    if stage.environment:
        parts += [f"    environment: {stage.environment}"]
        parts += [f"    concurrency: {{group: {pipeline.system}-{stage.environment}, cancel-in-progress: false}}"]
    parts += _environment(stage, pipeline)
    return "\n".join([*parts, "    steps:", *_steps(stage, pipeline)])


def _approval(stage: CiStage) -> list[str]:
    """Waits for the reviewers of an environment; who then is on record as the approver is who pushed."""
    return [
        "    environment: approval",
        f"    env: {{{APPROVED_BY}: '${{{{ github.actor }}}}'}}",
        "    steps:",
        *(f"      - run: {scalar(line)}" for line in stage.script),
    ]


def _environment(stage: CiStage, pipeline: CiPipeline) -> list[str]:
    secrets = [f"      {name}: ${{{{ secrets.{name} }}}}" for name in pipeline.secrets] if stage.uses_cluster else []
    if any(f"${APPROVED_BY}" in line for line in stage.script):
        secrets.append(f"      {APPROVED_BY}: ${{{{ github.actor }}}}")
    return ["    env:", *secrets] if secrets else []


def _steps(stage: CiStage, pipeline: CiPipeline) -> list[str]:
    steps = [
        "      - uses: actions/checkout@v5",
        "      - uses: actions/setup-python@v6",
        '        with: {python-version: "3.11"}',
        "      - uses: actions/cache@v5",
        "        with: {path: ~/.cache/pip, key: 'pip-${{ runner.os }}-${{ github.ref_name }}', restore-keys: pip-}",
        *(f"      - run: {scalar(line)}" for line in (*pipeline.install, *stage.script)),
    ]
    if stage.has_metrics:
        steps += ["      - if: always()", f'        run: cat {REPORTS}/model.md >> "$GITHUB_STEP_SUMMARY"']
    for folder in stage.keeps:
        steps += ["      - if: always()", "        uses: actions/upload-artifact@v6"]
        steps += [f"        with: {{name: {stage.name}, path: {folder}, include-hidden-files: true}}"]
    return steps
