"""What a run knows of its steps so far: results, artifacts, reasons; and what it says of itself at the end."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from platformops.pipeline.attempt import Parent
from platformops.pipeline.journal import StepRecord
from platformops.pipeline.records import Failure, Plan, RunEvent, RunResult, RunState, Step, StepResult, StepState


class Ledger:
    def __init__(self, plan: Plan, reasons: Mapping[str, str]) -> None:
        self.reasons = dict(reasons)
        """Why each step is not cached."""
        self.failed: list[str] = []
        self._plan = plan
        self._results: dict[str, StepResult] = {}
        self._artifacts: dict[str, Parent] = {}

    @property
    def results(self) -> Mapping[str, StepResult]:
        return self._results

    def has_parents(self, step: Step) -> bool:
        return all(name in self._artifacts for name in step.stage.needs)

    def parents(self, step: Step) -> dict[str, Parent]:
        return {name: self._artifacts[name] for name in step.stage.needs}

    def is_current(self, name: str, parent: Parent) -> bool:
        """Whether that very artifact is still the one in use, and not one that was made since."""
        return self._artifacts.get(name) is parent

    def done(self, step: Step, record: StepRecord, *, cached: bool, reason: str) -> None:
        assert record.manifest_digest is not None
        self._artifacts[step.stage.name] = Parent(step.fingerprint, record.manifest_digest)
        self._results[step.stage.name] = StepResult(
            name=step.stage.name,
            state=StepState.DONE,
            cached=cached,
            seconds=record.seconds,
            fingerprint=step.fingerprint,
            summary=record.summary,
            reason=reason,
            manifest_digest=record.manifest_digest,
        )

    def undone(self, name: str) -> Parent:
        """The artifact of a finished step cannot be used: forgets the step's result."""
        del self._results[name]
        return self._artifacts.pop(name)

    def unfinished(self, step: Step, state: StepState, reason: str, failure: Failure | None = None) -> None:
        if state is StepState.FAILED:
            self.failed.append(step.stage.name)
        self._results[step.stage.name] = StepResult(
            step.stage.name, state, False, 0.0, step.fingerprint, reason=reason, failure=failure
        )

    def states(self, running: Collection[str]) -> Mapping[str, StepState]:
        states = {name: result.state for name, result in self._results.items()}
        return states | dict.fromkeys(running, StepState.RUNNING)

    def close(self, *, was_cancelled: bool) -> tuple[RunEvent, str]:
        """How the run ended and why, once nothing runs any more; steps that never began say what they waited for."""
        unfinished = [step for step in self._plan.steps if step.stage.name not in self._results]
        for step in unfinished:
            reason = f"not started: {self.failed[0]} failed" if self.failed else "not started"
            self.unfinished(step, StepState.PENDING, reason)
        if self.failed:
            first = self.failed[0]
            return RunEvent.FAILED, f"{first}: {self._results[first].reason}"
        if all(result.state is StepState.DONE for result in self._results.values()):
            return RunEvent.SUCCEEDED, ""
        assert was_cancelled, f"nothing runs, yet {[step.stage.name for step in unfinished]} did not"
        return RunEvent.CANCELLED, "cancelled by a person"

    def result(self, run_id: str, state: RunState, reason: str) -> RunResult:
        steps = tuple(self._results[step.stage.name] for step in self._plan.steps)
        return RunResult(run_id, self._plan.system, state, steps, reason)
