"""Publishing an artifact, over nothing and over a corrupt one, and moving one aside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from platformops.store.directory import DirectoryArtifacts
from platformops.store.manifest import digest_of
from platformops.store.trouble import named
from tests.faults.operations.record import Operation, Say

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


ON_ARTIFACTS = (
    Operation("publish", one_artifact, publish, lambda folder, said: check_published(folder, said, 0)),
    Operation("publish over a corrupt one", corrupt_artifact, publish, lambda f, said: check_published(f, said, 1)),
    Operation("quarantine", corrupt_artifact, quarantine, check_quarantined),
)
