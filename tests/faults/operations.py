"""Everything that changes durable state, each with what must hold after it was cut off at any system call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from platformops.clock import ManualClock
from platformops.on_ray.checkpoints import newest_verified, write_checkpoint
from platformops.pipeline.journal import Journal, Lease, StepRecord
from platformops.pipeline.records import Failure, Owner, Stage, Step, StepKey, StepState
from platformops.registry.records import Lineage
from platformops.registry.registry import find_by_fingerprint, list_versions, register, resolve_alias, set_alias
from platformops.store.directory import DirectoryArtifacts
from platformops.store.manifest import digest_of
from platformops.store.records import ABSENT, Store
from platformops.store.sqlite import SqliteStore
from platformops.store.trouble import named

Say = Callable[[str], None]
"""Called once something is acknowledged: from then on it must be there whatever happens."""


@dataclass(frozen=True, slots=True)
class Operation:
    name: str
    prepare: Callable[[Path], None]
    """The whole and quiet state before, in an empty folder."""
    act: Callable[[Path, Say], None]
    """May be cut off anywhere; may be called again in the same process after it raised."""
    check: Callable[[Path, Sequence[str]], None]
    """Asserts what must hold given what was said, with no repair by hand, and that the operation works when next done.
    """


@contextmanager
def store_in(folder: Path) -> Iterator[Store]:
    store = SqliteStore(folder / "store.db")
    try:
        yield store
    finally:
        store.close()


# Opening, and writing to, the store


def no_store(folder: Path) -> None:
    pass


def old_store(folder: Path) -> None:
    with store_in(folder) as store:
        for n in range(5):
            store.put(f"old/{n}", {"n": n}, expect=ABSENT)


def hot_store(folder: Path) -> None:
    """As a process that was killed leaves it: the newest writes are in the log alone."""
    old_store(folder)
    store = SqliteStore(folder / "store.db")
    store.put("old/5", {"n": 5}, expect=ABSENT)
    kept = {path: path.read_bytes() for path in folder.iterdir()}
    store.close()
    for path, content in kept.items():
        path.write_bytes(content)


def put_two(folder: Path, say: Say) -> None:
    with store_in(folder) as store:
        for n in range(2):
            there = store.get(f"new/{n}")
            store.put(f"new/{n}", {"n": n}, expect=there.version if there else ABSENT)
            say(f"new/{n}")


def check_puts(folder: Path, said: Sequence[str], old: int) -> None:
    with store_in(folder) as store:
        assert [e.value["n"] for e in store.scan("old/")] == list(range(old)), "what was there before"
        there = [e.key for e in store.scan("new/")]
        assert there == ["new/0", "new/1"][: len(there)], "in order"
        assert set(said) <= set(there), f"acknowledged {said}, found {there}"
    put_two(folder, lambda _: None)


# Artifacts

FILES = {"model.json": b'{"width": 16}', "weights/part.bin": bytes(range(256)) * 20}


def artifacts_in(folder: Path) -> DirectoryArtifacts:
    return DirectoryArtifacts(folder / "artifacts")


def stage_files(artifacts: DirectoryArtifacts, fingerprint: str) -> Path:
    """What a stage would write: its own errors are the worker's to name."""
    staging = artifacts.staging(fingerprint)
    with named("the stage", "writing"):
        for name, content in FILES.items():
            (staging / name).parent.mkdir(exist_ok=True)
            (staging / name).write_bytes(content)
    return staging


def one_artifact(folder: Path) -> None:
    artifacts = artifacts_in(folder)
    artifacts.publish("f0", stage_files(artifacts, "f0"))


def corrupt_artifact(folder: Path) -> None:
    one_artifact(folder)
    artifacts = artifacts_in(folder)
    artifacts.publish("f1", stage_files(artifacts, "f1"))
    damaged = folder / "artifacts" / "f1" / "files" / "model.json"
    damaged.chmod(0o644)
    damaged.write_bytes(b'{"width": 61}')


def publish(folder: Path, say: Say) -> None:
    artifacts = artifacts_in(folder)
    say(artifacts.publish("f1", stage_files(artifacts, "f1")))


def check_published(folder: Path, said: Sequence[str], num_quarantined: int) -> None:
    artifacts = artifacts_in(folder)
    check_sound(artifacts, "f0")
    if said:
        check_sound(artifacts, "f1", said[-1])
    kept = list((folder / "artifacts" / ".quarantine").glob("*/artifact"))
    assert len(kept) <= num_quarantined
    again: list[str] = []
    publish(folder, again.append)
    assert not said or again == [said[-1]], "the same artifact"
    check_sound(artifacts, "f1", again[0])
    kept = list((folder / "artifacts" / ".quarantine").glob("*/artifact"))
    assert len(kept) == num_quarantined, "nothing half published was ever visible"
    left = [path.name for path in (folder / "artifacts" / ".staging").iterdir()]
    assert not left, f"left aside: {left}"


def check_sound(artifacts: DirectoryArtifacts, fingerprint: str, digest: str | None = None) -> None:
    manifest = artifacts.files(fingerprint).parent / "manifest.json"
    opened = artifacts.open(fingerprint, digest or digest_of(manifest.read_bytes()))
    assert {name: (opened / name).read_bytes() for name in FILES} == FILES


def quarantine(folder: Path, say: Say) -> None:
    artifacts_in(folder).quarantine("f1", "looks odd")
    say("aside")


def check_quarantined(folder: Path, said: Sequence[str]) -> None:
    artifacts = artifacts_in(folder)
    kept = list((folder / "artifacts" / ".quarantine").glob("*/artifact/files/model.json"))
    there = artifacts.exists("f1")
    assert len(kept) + there == 1, "in one place or the other"
    assert not (said and there)
    quarantine(folder, lambda _: None)
    assert not artifacts.exists("f1")
    check_sound(artifacts, "f0")


# The registry


def two_versions(folder: Path) -> None:
    with store_in(folder) as store:
        for n in (1, 2):
            _register(store, f"fp{n}")
        set_alias(store, "model", "champion", 1, expect=ABSENT)


def _register(store: Store, fingerprint: str) -> int:
    version = register(
        store,
        model="model",
        fingerprint=fingerprint,
        artifacts={"train": {"fingerprint": fingerprint, "manifest_digest": "0" * 64}},
        metrics={"accuracy": 0.9},
        params={},
        lineage=Lineage({}, {}, "run", "unknown", False),
        now=1.0,
    )
    return version.number


def register_third(folder: Path, say: Say) -> None:
    with store_in(folder) as store:
        say(str(_register(store, "fp3")))


def check_registered(folder: Path, said: Sequence[str]) -> None:
    with store_in(folder) as store:
        numbers = [version.number for version in list_versions(store, "model")]
        known = find_by_fingerprint(store, "fp3", model="model")
        assert numbers in ([1, 2], [1, 2, 3])
        assert (known is not None) == (len(numbers) == 3), "the version and the note of its fingerprint, or neither"
        assert said in ([], ["3"])
        assert not said or numbers == [1, 2, 3]
        assert _register(store, "fp3") == 3
        assert len(list_versions(store, "model")) == 3, "exactly one"


def promote(folder: Path, say: Say) -> None:
    with store_in(folder) as store:
        alias = resolve_alias(store, "model", "champion")
        assert alias is not None
        say(str(set_alias(store, "model", "champion", 2, expect=alias.token).number))


def check_promoted(folder: Path, said: Sequence[str]) -> None:
    with store_in(folder) as store:
        alias = resolve_alias(store, "model", "champion")
        assert alias is not None
        assert alias.number in (1, 2)
        assert not said or alias.number == 2
        assert [version.number for version in list_versions(store, "model")] == [1, 2]
    promote(folder, lambda _: None)


# The journal of steps

STEP = Step(Stage("a", "stages:step"), StepKey("a", {}, {}, {}, {}), "f1")


def journal_in(store: Store, pid: int) -> Journal:
    """Of a process that the others take for dead."""
    owner = Owner(host="here", machine="m", pid=pid, started=1)
    return Journal(store, clock=ManualClock(), owner=owner, run_id=f"r{pid}", is_alive=lambda _: False)


def claim(journal: Journal) -> Lease:
    lease = journal.claim(STEP, system="demo")
    assert isinstance(lease, Lease), lease
    return lease


def complete(journal: Journal, lease: Lease) -> Lease:
    return journal.complete(lease, STEP, manifest_digest="0" * 64, seconds=1.0, summary={"rows": 3})


def run_step(folder: Path, say: Say) -> None:
    with store_in(folder) as store:
        journal = journal_in(store, 1)
        record = journal.look("f1")
        if record and record.state is StepState.DONE:
            say("done")
            return
        lease = claim(journal)
        say("claimed")
        lease = journal.retry(journal.renew(lease), Failure("OSError", "once"))
        say("retried")
        complete(journal, lease)
        say("done")


def check_step(folder: Path, said: Sequence[str]) -> None:
    with store_in(folder) as store:
        journal = journal_in(store, 2)
        record, latest = journal.look("f1"), store.get("latest/demo/a")
        state = record.state if record else None
        assert state in (None, StepState.RUNNING, StepState.DONE)
        assert (state is StepState.DONE) == (latest is not None), "one commit"
        if said:
            assert state is not None
        if "retried" in said:
            assert record is not None
            assert record.attempts == 2
        if "done" in said:
            assert state is StepState.DONE
        if state is not StepState.DONE:
            token = record.token if record else 0
            lease = claim(journal)
            assert lease.record.token == token + 1
            complete(journal, lease)
        assert isinstance(journal.claim(STEP, system="demo"), StepRecord), "and it is never run again"


def finished_step(folder: Path) -> None:
    with store_in(folder) as store:
        journal = journal_in(store, 1)
        complete(journal, claim(journal))


def undo_step(folder: Path, say: Say) -> None:
    with store_in(folder) as store:
        journal = journal_in(store, 1)
        journal.invalidate("f1", "its artifact is gone")
        say("invalidated")
        found = journal.claim(STEP, system="demo")
        if isinstance(found, Lease):
            say("claimed")
            journal.fail(journal.renew(found), Failure("StageFailed", "no luck"))
            say("failed")


def check_undone(folder: Path, said: Sequence[str]) -> None:
    with store_in(folder) as store:
        journal = journal_in(store, 2)
        record = journal.look("f1")
        assert record is not None
        if "invalidated" in said:
            assert record.is_damaged
            assert record.state is not StepState.DONE
        if "failed" in said:
            assert record.state is StepState.FAILED
            assert record.failure is not None
        if record.state is not StepState.DONE:
            complete(journal, claim(journal))
        again = journal.look("f1")
        assert again is not None
        assert again.state is StepState.DONE
        assert not again.is_damaged


# Training checkpoints


def checkpoints(folder: Path) -> None:
    for epoch in (1, 2):
        checkpoint(folder, epoch)


def checkpoint(folder: Path, epoch: int, text: str = "") -> None:
    def write(place: Path) -> None:
        (place / "training.json").write_text(f"{epoch} {text}")
        (place / "training.safetensors").write_bytes(bytes([epoch]) * 3000)

    write_checkpoint(folder / "checkpoints", epoch, write)


def third_checkpoint(folder: Path, say: Say) -> None:
    checkpoint(folder, 3)
    say("3")


def second_again(folder: Path, say: Say) -> None:
    checkpoint(folder, 2, "again")
    say("2")


def check_checkpoints(folder: Path, said: Sequence[str], epoch: int, act: Callable[[Path, Say], None]) -> None:
    found, damaged = newest_verified(folder / "checkpoints")
    assert found is not None
    there, _, text = (found / "training.json").read_text().partition(" ")
    assert not damaged, damaged
    assert int(there) in (2, epoch)
    assert not said or (int(there) == epoch and (text == "again" or epoch == 3)), f"acknowledged, found {there} {text}"
    act(folder, lambda _: None)
    left = [path.name for path in (folder / "checkpoints").iterdir() if not path.name.startswith("epoch-")]
    assert not left, f"left aside: {left}"
    newest, damaged = newest_verified(folder / "checkpoints")
    assert newest is not None
    assert (newest / "training.json").read_text().startswith(f"{epoch} ")
    assert not damaged


OPERATIONS = (
    Operation("open", no_store, put_two, lambda folder, said: check_puts(folder, said, 0)),
    Operation("put", old_store, put_two, lambda folder, said: check_puts(folder, said, 5)),
    Operation("recover", hot_store, put_two, lambda folder, said: check_puts(folder, said, 6)),
    Operation("publish", one_artifact, publish, lambda folder, said: check_published(folder, said, 0)),
    Operation("publish over a corrupt one", corrupt_artifact, publish, lambda f, said: check_published(f, said, 1)),
    Operation("quarantine", corrupt_artifact, quarantine, check_quarantined),
    Operation("register", two_versions, register_third, check_registered),
    Operation("promote", two_versions, promote, check_promoted),
    Operation("journal of a step", no_store, run_step, check_step),
    Operation("journal of a step undone", finished_step, undo_step, check_undone),
    Operation("checkpoint", checkpoints, third_checkpoint, lambda f, s: check_checkpoints(f, s, 3, third_checkpoint)),
    Operation("checkpoint again", checkpoints, second_again, lambda f, s: check_checkpoints(f, s, 2, second_again)),
)
