"""What pipeline tests share: a place to run plans, and a launcher in this process with the real one's contract."""

import importlib.util
import itertools
import json
import threading
from dataclasses import dataclass, field
from pathlib import Path

from platformops.clock import ManualClock
from platformops.errors import AppError
from platformops.home import Home, home_at
from platformops.pipeline.identity import FileIdentity
from platformops.pipeline.plan import make_plan
from platformops.pipeline.records import Failure, Owner, StageContext
from platformops.pipeline.runner import run_plan
from platformops.pipeline.wire import STOPPED, TIMED_OUT, News, Returned
from platformops.pipeline.worker import Stop, failure_from, summary_of
from platformops.store.artifacts import Artifacts
from platformops.store.memory import MemoryStore
from platformops.store.records import Store

NUMBERS = itertools.count()
ME = Owner(host="here", machine="m1", pid=1, started=10)
OTHER = Owner(host="there", machine="m2", pid=2, started=20)


class TooLong(BaseException):
    pass


class FakeLauncher:
    """Calls stage functions in the caller's thread. Reporting progress takes a second of its clock, and is where a
    stop or a timeout is noticed."""

    def __init__(self, clock):
        self.clock = clock
        self.ran = []
        self.script = {}
        """Stage name -> outcomes to give instead of running, first one first."""
        self.is_closed = False

    def run(self, request, *, stop, on_news):
        self.ran.append(request.stage)
        if self.script.get(request.stage):
            return self.script[request.stage].pop(0)
        if stop.is_set():
            return Failure(STOPPED, "stopped while it ran")
        deadline = self.clock.monotonic() + request.timeout_s if request.timeout_s else None

        def progress(ratio, message, **figures):
            self.clock.sleep(1.0)
            on_news(News("progress", message, ratio, figures))
            if stop.is_set():
                raise Stop
            if deadline is not None and self.clock.monotonic() > deadline:
                raise TooLong

        try:
            context = StageContext(
                request.inputs, request.output, request.scratch, progress, request.fingerprint, request.root
            )
            begin = self.clock.monotonic()
            summary = self._function(request)(context, **request.params)
            return Returned(summary_of(summary, request.uses), self.clock.monotonic() - begin)
        except TooLong:
            return Failure(TIMED_OUT, f"took longer than its timeout_s of {request.timeout_s:g} s")
        except BaseException as error:
            return failure_from(error)

    def close(self):
        self.is_closed = True

    def _function(self, request):
        module, _, function = request.uses.partition(":")
        path = request.root / f"{module}.py"
        if not path.is_file():
            raise AppError(f"{module}: there is no such module")
        spec = importlib.util.spec_from_file_location(f"stage_module_{next(NUMBERS)}", path)
        loaded = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
        return getattr(loaded, function)


@dataclass
class Workshop:
    root: Path
    home: Home
    store: Store
    artifacts: Artifacts
    clock: ManualClock
    launcher: FakeLauncher
    owner: Owner = ME
    alive: dict = field(default_factory=dict)
    """Owner -> what this machine knows of it; None for those of other machines."""
    progress: list = field(default_factory=list)

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    @property
    def identity(self):
        return FileIdentity(root=self.root, data_root=self.root / "data", store=self.store, clock=self.clock)

    def plan(self, *stages, system="demo"):
        return make_plan(system, stages, identity=self.identity)

    def run(self, plan, **changes):
        arguments = {
            "store": self.store,
            "artifacts": self.artifacts,
            "home": self.home,
            "clock": self.clock,
            "launcher": self.launcher,
            "owner": self.owner,
            "root": self.root,
            "identity": self.identity,
            "on_progress": self.progress.append,
            "cancelled": threading.Event(),
            "is_alive": lambda owner: self.alive.get(owner),
        }
        return run_plan(plan, **(arguments | changes))

    def record(self, result, name):
        step = next(step for step in result.steps if step.name == name)
        return self.store.get(f"step/{step.fingerprint}").value

    def log(self, result):
        lines = (self.home.logs / f"{result.run_id}.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]


def workshop_at(root, *, store=None, clock=None, launcher=None):
    folder = root / "project"
    folder.mkdir(exist_ok=True)
    home = home_at(root / "home")
    clock = clock or ManualClock()
    return Workshop(
        root=folder,
        home=home,
        store=store or MemoryStore(),
        artifacts=Artifacts(home.artifacts_url, cache=home.cache),
        clock=clock,
        launcher=launcher or FakeLauncher(clock),
    )
