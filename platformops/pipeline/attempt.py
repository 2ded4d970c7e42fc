"""One try of a step: verified inputs in, the stage run by a worker, its output published; or why not."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from platformops.errors import ArtifactCorrupt, DataRefused, DiskFull, PlatformError, UserError
from platformops.home import Home
from platformops.pipeline.identity import Identity
from platformops.pipeline.records import USES, Failure, Step
from platformops.pipeline.shortage import Shortage
from platformops.pipeline.wire import DISK_FULL, STOPPED, Launcher, News, StepRequest
from platformops.store.artifacts import Artifacts
from platformops.store.records import JsonObject
from platformops.store.room import bytes_below, disk_of, fullest, in_bytes
from platformops.store.trouble import NO_SPACE, named


@dataclass(frozen=True, slots=True)
class Parent:
    """Where the artifact of a needed stage is."""

    fingerprint: str
    manifest_digest: str


@dataclass(frozen=True, slots=True)
class Published:
    """The artifact is durable; the journal does not know yet."""

    manifest_digest: str
    seconds: float
    summary: JsonObject


@dataclass(frozen=True, slots=True)
class Damaged:
    """An input failed its verification: the stage that made it has to run again first."""

    name: str
    parent: Parent
    reason: str


class Attempts:
    """Tries steps, from several threads at once. What is verified once is not verified again in the same run."""

    def __init__(
        self, *, artifacts: Artifacts, launcher: Launcher, home: Home, root: Path, identity: Identity | None
    ) -> None:
        self._artifacts, self._launcher, self._identity = artifacts, launcher, identity
        self._home, self._root = home, root
        self._opened: dict[tuple[str, str], Path] = {}

    def attempt(
        self, step: Step, parents: Mapping[str, Parent], *, stop: threading.Event, on_news: Callable[[News], None]
    ) -> Published | Damaged | Failure:
        outcome = self._tried(step, parents, stop, on_news)
        return self._short(outcome) if isinstance(outcome, Failure) and outcome.kind == DISK_FULL else outcome

    def _tried(
        self, step: Step, parents: Mapping[str, Parent], stop: threading.Event, on_news: Callable[[News], None]
    ) -> Published | Damaged | Failure:
        try:
            if refused := self._changed_code(step):
                return refused
            inputs: dict[str, Path] = {}
            for name, parent in parents.items():
                try:
                    inputs[name] = self._open(parent)
                except ArtifactCorrupt as error:
                    return Damaged(name, parent, error.message)
            return self._make(step, inputs, stop, on_news)
        except (PlatformError, OSError) as error:
            return _failure(error)

    def forget(self, parent: Parent) -> None:
        """The artifact will be made again: verify what then stands in its place."""
        self._opened.pop((parent.fingerprint, parent.manifest_digest), None)

    def has_room(self, shortage: Shortage) -> bool:
        """Whether the disk that was full has gained enough for another attempt; one that is gone has not."""
        with suppress(OSError):
            return shortage.is_over(disk_of(Path(shortage.folder)))
        return False

    def clear_scratch(self, fingerprint: str) -> None:
        """Harmless when there is none; what resists is tried again when the step is next found done."""
        if os.path.isdir(self._scratch(fingerprint)):
            shutil.rmtree(self._scratch(fingerprint), ignore_errors=True)

    def _open(self, parent: Parent) -> Path:
        place = (parent.fingerprint, parent.manifest_digest)
        if place not in self._opened:
            self._opened[place] = self._artifacts.open(*place)
        return self._opened[place]

    def _make(
        self, step: Step, inputs: Mapping[str, Path], stop: threading.Event, on_news: Callable[[News], None]
    ) -> Published | Failure:
        staging = self._artifacts.staging(step.fingerprint)
        published = False
        try:
            outcome = self._launcher.run(self._request(step, inputs, staging), stop=stop, on_news=on_news)
            if isinstance(outcome, Failure):
                return self._named_disk(outcome, step, staging)
            if refused := self._changed_sources(step):
                return refused
            if stop.is_set():  # the lease may be another's by now: leave the place to the new owner
                return Failure(STOPPED, "stopped before its artifact was published")
            digest = self._artifacts.publish(step.fingerprint, staging)
            published = True
            return Published(digest, outcome.seconds, outcome.summary)
        except (PlatformError, OSError) as error:
            return self._named_disk(_failure(error), step, staging)
        finally:
            if not published:
                with suppress(PlatformError):
                    self._artifacts.discard(staging)

    def _request(self, step: Step, inputs: Mapping[str, Path], staging: Path) -> StepRequest:
        scratch = self._scratch(step.fingerprint)
        with named(f"scratch in {self._home.scratch}", f"making room for {step.stage.name}", at=self._home.scratch):
            scratch.mkdir(parents=True, exist_ok=True)
        return StepRequest(
            stage=step.stage.name,
            uses=step.stage.uses,
            fingerprint=step.fingerprint,
            params=step.stage.params,
            inputs=inputs,
            output=staging,
            scratch=scratch,
            root=self._root,
            on_cluster=step.stage.on_cluster,
            timeout_s=step.stage.timeout_s,
        )

    def _named_disk(self, failure: Failure, step: Step, staging: Path) -> Failure:
        """For a full disk: which one it is, and how much room the step needs; asked while what it wrote is there."""
        if failure.kind != DISK_FULL:
            return failure
        scratch = self._scratch(step.fingerprint)
        written = bytes_below(staging) + bytes_below(scratch)
        disk = fullest([staging, scratch, Path(tempfile.gettempdir())])
        remedy = f"free some space: more than {in_bytes(written)}, as much as the step had written; and run again"
        known = str(disk.mount) in failure.message.partition("the disk at ")[2]
        message = failure.message if known else f"{failure.message}; {disk}"
        shortage = Shortage(str(disk.mount), disk.free_bytes, disk.free_inodes, written)
        return replace(failure, message=message, remedy=failure.remedy if known else remedy, shortage=shortage)

    def _short(self, failure: Failure) -> Failure:
        """A full disk, with what is free there now that the attempt has cleared up behind itself."""
        with suppress(OSError):  # without a disk to look at there is nothing to wait for: the step fails at once
            short = failure.shortage
            disk = disk_of(Path(short.folder)) if short else fullest([self._home.root, Path(tempfile.gettempdir())])
            written = short.written_bytes if short else 0
            shortage = Shortage(str(disk.mount), disk.free_bytes, disk.free_inodes, written)
            return replace(failure, shortage=shortage)
        return failure

    def _scratch(self, fingerprint: str) -> Path:
        return self._home.scratch / fingerprint

    def _changed_code(self, step: Step) -> Failure | None:
        """An artifact of code that was edited after the plan would lie under the fingerprint of the old code."""
        if self._identity is None:
            return None
        now = self._identity.code(step.stage)
        planned = {name: digest for name, digest in step.key.code.items() if name != USES}
        changed = sorted(name for name in {*now, *planned} if now.get(name) != planned.get(name))
        if not changed:
            return None
        message = f"the code of {changed[0]} changed after the plan was made"
        return Failure(UserError.__name__, message, "run again: the new plan takes the new code", final=True)

    def _changed_sources(self, step: Step) -> Failure | None:
        """Asked after the stage has read them: what it read may be a mixture."""
        for uri, digest in step.key.sources.items():
            if self._identity is not None and self._identity.source(uri) != digest:
                message = f"the data of {uri} changed while the step ran"
                return Failure(DataRefused.__name__, message, "run again: the new plan takes the new data", final=True)
        return None


def _failure(error: PlatformError | OSError) -> Failure:
    cause = error if isinstance(error, OSError) else error.__cause__
    is_full = isinstance(error, DiskFull) or (isinstance(cause, OSError) and cause.errno in NO_SPACE)
    kind = DISK_FULL if is_full else type(error).__name__
    if isinstance(error, PlatformError):
        final = is_full or isinstance(error, UserError | DataRefused)
        return Failure(kind, error.message, error.remedy, final=final)
    return Failure(kind, f"{error.strerror} ({error.filename})", final=is_full)
