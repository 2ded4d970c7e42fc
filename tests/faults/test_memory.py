"""Memory that runs out: said as such with what to do about it, tried again within bounds, and nobody else's trouble."""

import json

import pytest

from platformops.pipeline.records import RunState
from platformops.pipeline.runner import exit_code
from tests.faults import memory_limit
from tests.faults.pipelines import Pipeline

pytestmark = [pytest.mark.real, pytest.mark.skipif(bool(memory_limit.why_not()), reason=memory_limit.why_not())]
HUNGRY = """
import json
from pathlib import Path

def write(context, size):
    with open(context.root / "began", "a") as file:
        file.write("write\\n")
    group, times = json.loads((context.root / "group.json").read_text())
    if (context.root / "began").read_text().count("write") <= times:
        Path(group, "cgroup.procs").write_text("0")
        bytearray(b"x" * (1 << 28))
    return {}

def read(context):
    return {"text": "unharmed"}
"""


@pytest.fixture
def pipeline(tmp_path):
    made = Pipeline(tmp_path / "project")
    (made.root / "stages.py").write_text(HUNGRY)
    return made


def run(pipeline, *, times):
    """The run of a stage that takes more memory than there is, the first `times` times."""
    with memory_limit.memory_limit(64 << 20) as limit:
        (pipeline.root / "group.json").write_text(json.dumps([str(limit.folder), times]))
        result = pipeline.run(needs=(), retries=0)
        return result, limit.kills()


def test_a_stage_that_memory_runs_out_for_fails_after_a_few_tries_and_says_what_to_do(pipeline):
    result, kills = run(pipeline, times=99)
    assert (result.state, exit_code(result)) == (RunState.FAILED, 1)
    write, read = result.steps
    assert "while memory ran out" in write.failure.message
    assert "train.batch_size" in write.failure.remedy
    assert 2 <= kills == len(pipeline.began()) <= 3
    assert read.summary == {"text": "unharmed"}, "the other stage of the same run ends well"


def test_a_stage_that_memory_ran_out_for_once_is_tried_again_at_no_cost(pipeline):
    result, kills = run(pipeline, times=1)
    assert (result.state, kills, pipeline.began()) == (RunState.SUCCEEDED, 1, ["write", "write"])
