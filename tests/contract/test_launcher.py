"""The launcher in this process and the one with worker processes keep one contract."""

import os
import threading
from dataclasses import replace

import pytest

from platformops.clock import ManualClock, SystemClock
from platformops.pipeline.launcher import WorkerLauncher
from platformops.pipeline.records import Failure
from platformops.pipeline.wire import STOPPED, TIMED_OUT, Returned, StepRequest
from tests.pipeline.workshop import FakeLauncher

STAGES = """
import time
from platformops.errors import DataRefused, UserError

def good(context, word, *, times=2):
    for name, folder in context.inputs.items():
        assert (folder / "in.txt").read_text() == name
    (context.output / "out.txt").write_text(word * times)
    (context.scratch / "kept").write_text("kept")
    context.progress(0.5, "half way")
    return {"fingerprint": context.fingerprint, "root": context.root.name}

def nothing(context):
    pass

def numbers(context):
    import numpy as np
    return {"accuracy": np.float32(0.5), "rows": np.int64(3), "pair": (1, 2), "lost": float("nan"), "yes": np.True_}

def an_object(context):
    return {"model": object()}

def a_list(context):
    return [1, 2]

def value_error(context):
    raise ValueError("no rows")

def refused(context):
    raise DataRefused("bad rows", remedy="clean them")

def user_error(context):
    raise UserError("bad option", remedy="drop it")

def leaves(context):
    raise SystemExit(3)

def full(context):
    with open("/dev/full", "w") as file:
        file.write("x" * 100000)

def for_ever(context):
    while True:
        context.progress(None, "working")
        time.sleep(0.005)
"""


@pytest.fixture(params=["fake", pytest.param("worker", marks=pytest.mark.real)])
def launcher(request):
    if request.param == "fake":
        launcher = FakeLauncher(ManualClock())
    else:
        launcher = WorkerLauncher(environment=dict(os.environ), clock=SystemClock())
    yield launcher
    launcher.close()


@pytest.fixture
def ask(tmp_path, launcher):
    """Runs a function of the stages above; the outcome and the news of it."""
    (tmp_path / "stages.py").write_text(STAGES)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "in.txt").write_text("in")
    for name in ("output", "scratch"):
        (tmp_path / name).mkdir()
    plain = StepRequest(
        stage="one",
        uses="",
        fingerprint="f" * 64,
        params={},
        inputs={"in": tmp_path / "in"},
        output=tmp_path / "output",
        scratch=tmp_path / "scratch",
        root=tmp_path,
    )

    def ask(function, *, stop=None, on_news=None, timeout_s=None, **params):
        news = []
        request = replace(plain, uses=f"stages:{function}", params=params, timeout_s=timeout_s)
        outcome = launcher.run(request, stop=stop or threading.Event(), on_news=on_news or news.append)
        return outcome, news

    return ask


def test_a_stage_gets_its_context_and_params_and_its_summary_comes_back(ask, tmp_path):
    outcome, news = ask("good", word="ab", times=3)
    assert isinstance(outcome, Returned), outcome
    assert outcome.summary == {"fingerprint": "f" * 64, "root": tmp_path.name}
    assert outcome.seconds >= 0
    assert (tmp_path / "output" / "out.txt").read_text() == "ababab"
    assert [(n.kind, n.ratio, n.message) for n in news] == [("progress", 0.5, "half way")]


def test_a_stage_may_return_nothing(ask):
    assert ask("nothing")[0].summary == {}


def test_numbers_of_numpy_are_plain_and_what_is_no_number_is_null(ask):
    outcome, _ = ask("numbers")
    assert outcome.summary == {"accuracy": 0.5, "rows": 3, "pair": [1, 2], "lost": None, "yes": True}


@pytest.mark.parametrize(
    ("function", "kind", "message", "final"),
    [
        ("value_error", "ValueError", "ValueError: no rows (stages.py:", False),
        ("refused", "DataRefused", "bad rows", True),
        ("user_error", "UserError", "bad option", True),
        ("an_object", "AppError", "what stages:an_object returned.model: a object cannot be kept", True),
        ("a_list", "AppError", "stages:a_list: returned a list", True),
        ("leaves", "SystemExit", "the stage called sys.exit(3)", False),
        ("full", "DiskFull", "the disk is full", True),
    ],
)
def test_what_a_stage_raises_comes_back_as_a_record(ask, function, kind, message, final):
    failure, _ = ask(function)
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.final) == (kind, final)
    assert failure.message.startswith(message)
    assert "Traceback" not in failure.message
    assert "Traceback" in failure.trace


def test_a_platform_error_keeps_its_remedy(ask):
    assert ask("refused")[0].remedy == "clean them"


def test_a_stage_that_takes_too_long_is_ended(ask):
    failure, _ = ask("for_ever", timeout_s=0.5)
    assert (failure.kind, failure.final) == (TIMED_OUT, False)
    assert "timeout_s of 0.5 s" in failure.message


def test_a_stopped_stage_is_ended(ask):
    stop = threading.Event()
    failure, _ = ask("for_ever", stop=stop, on_news=lambda news: stop.set())
    assert failure.kind == STOPPED


def test_after_any_outcome_the_next_step_runs(ask):
    stopped = threading.Event()
    stopped.set()
    ask("value_error")
    ask("for_ever", stop=stopped)
    ask("for_ever", timeout_s=0.3)
    assert isinstance(ask("nothing")[0], Returned)
