"""The pipeline as a declarative Jenkinsfile."""

from __future__ import annotations

from collections.abc import Iterable

from platformops.delivery.ci.heading import heading
from platformops.delivery.ci.records import APPROVED_BY, FOLDER, REPORTS, CiPipeline, CiStage
from platformops.delivery.ci.region import Region
from platformops.delivery.ci.stages import made_after, made_before

FILE = "Jenkinsfile"
BETWEEN = "\n        // Stages of your own stand here; they come before the approval.\n\n"
_VENV = f"{FOLDER}/venv"


def jenkins_regions(pipeline: CiPipeline, own: str) -> tuple[Region, ...]:
    """Two regions, between which a person's `own` stages stand."""
    del own  # they stand in their place already
    install = CiStage("install", (f"python3 -m venv {_VENV}", *pipeline.install))
    before = "\n".join(_stage(stage, pipeline) for stage in (install, *made_before(pipeline)))
    after = "\n".join(_stage(stage, pipeline) for stage in made_after(pipeline))
    secrets = "Its secrets are credentials (secret text) with these ids"
    top = f"""\
{heading(pipeline, "jenkins", secrets, comment="//")}
pipeline {{
    agent any
    options {{
        timeout(time: {pipeline.timeout_s:.0f}, unit: 'SECONDS')
        disableConcurrentBuilds()
    }}
    environment {{
        PATH = "${{env.WORKSPACE}}/{_VENV}/bin:${{env.PATH}}"
        PIP_CACHE_DIR = "${{env.WORKSPACE}}/{FOLDER}/cache/pip"
    }}
    stages {{
{before}"""
    return (
        Region(top, "//", end_indent=" " * 8),
        Region(f"{after}\n{_END}" if after else _END, "//", indent=" " * 8),
    )


_END = f"""\
    }}
    post {{
        always {{
            junit allowEmptyResults: true, testResults: '{REPORTS}/*.xml'
            archiveArtifacts allowEmptyArchive: true, artifacts: '{FOLDER}/dist/**,{REPORTS}/**'
        }}
        failure {{
            echo 'The same on a laptop: platformops ci run --stage STAGE'
        }}
    }}
}}"""


def _stage(stage: CiStage, pipeline: CiPipeline) -> str:
    return "\n".join([
        f"        stage({quoted(stage.name)}) {{",
        *_indented(_when(stage, pipeline)),
        *_indented(_environment(stage, pipeline)),
        "            steps {",
        *(_approval(stage, pipeline) if stage.is_manual else ()),
        *(f"                sh {quoted(line)}" for line in stage.script),
        "            }",
        "        }",
    ])  # fmt: skip


def _when(stage: CiStage, pipeline: CiPipeline) -> Iterable[str]:
    return ["when {", f"    branch {quoted(pipeline.branch)}", "}"] if stage.on_branch else []


def _environment(stage: CiStage, pipeline: CiPipeline) -> Iterable[str]:
    if not stage.uses_cluster or not pipeline.secrets:
        return []
    return ["environment {", *(f"    {name} = credentials({quoted(name)})" for name in pipeline.secrets), "}"]


def _approval(stage: CiStage, pipeline: CiPipeline) -> Iterable[str]:
    question = quoted(f"Release {pipeline.system} to production?")
    return [
        "                script {",
        f"                    env.{APPROVED_BY} = input(message: {question}, submitterParameter: '{APPROVED_BY}')",
        "                }",
    ]


def _indented(lines: Iterable[str]) -> Iterable[str]:
    return (f"            {line}" for line in lines)


def quoted(text: str) -> str:
    """A Groovy text that is taken as it is, `$` included."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
