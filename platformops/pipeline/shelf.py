"""Takes finished steps from the store as they are, or says that their artifact cannot be used any more."""

from __future__ import annotations

from platformops.errors import ArtifactCorrupt
from platformops.pipeline.attempt import Attempts
from platformops.pipeline.journal import Journal, StepRecord
from platformops.pipeline.ledger import Ledger
from platformops.pipeline.records import Plan, Step, StepState
from platformops.pipeline.schedule import Schedule
from platformops.pipeline.teller import Teller
from platformops.store.artifacts import Artifacts


class Shelf:
    """`verify` names the stages whose artifact is read to its last byte before it counts as there."""

    def __init__(
        self,
        journal: Journal,
        attempts: Attempts,
        artifacts: Artifacts,
        ledger: Ledger,
        schedule: Schedule,
        teller: Teller,
        *,
        verify: frozenset[str],
    ) -> None:
        self._journal, self._attempts, self._artifacts, self._ledger = journal, attempts, artifacts, ledger
        self._schedule, self._teller, self._verify = schedule, teller, verify

    def take_all(self, plan: Plan) -> None:
        for step in plan.steps:
            record = self._journal.look(step.fingerprint)
            if record and record.state is StepState.DONE:
                self.take(step, record, reason="")

    def take(self, step: Step, record: StepRecord, *, reason: str) -> bool:
        """Uses the artifact that is there; False when it is not sound and the step has to be done again."""
        if damage := self._damage(step, record):
            self.invalidate(step, damage)
            return False
        self._attempts.clear_scratch(step.fingerprint)  # of a run that was killed right after the journal said done
        self._ledger.done(step, record, cached=True, reason=reason)
        self._schedule.finish(step.stage.name)
        self._teller.step(step, "cached", reason)
        return True

    def invalidate(self, step: Step, reason: str) -> None:
        self._journal.invalidate(step.fingerprint, reason)
        self._ledger.reasons[step.stage.name] = reason
        self._teller.step(step, "waiting", f"is made again: {reason}", level="warning")

    def clear(self, step: Step, reason: str) -> None:
        """Moves a damaged artifact aside; only for the holder of the step's lease, else it might move a fresh one."""
        if self._artifacts.exists(step.fingerprint):
            self._artifacts.quarantine(step.fingerprint, reason)

    def _damage(self, step: Step, record: StepRecord) -> str:
        if not self._artifacts.exists(step.fingerprint):
            return "its artifact is gone"
        if step.stage.name in self._verify:
            assert record.manifest_digest is not None
            try:
                self._artifacts.open(step.fingerprint, record.manifest_digest)
            except ArtifactCorrupt as error:
                return error.message
        return ""
