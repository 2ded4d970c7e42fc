"""Bytes that changed, were cut off, lost or added: found before use, and the previous good copy used where one is."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from platformops.errors import ArtifactCorrupt, StoreUnavailable
from platformops.on_ray.checkpoints import newest_verified, write_checkpoint
from platformops.pipeline.records import RunState
from platformops.store.directory import DirectoryArtifacts
from platformops.store.records import ABSENT
from platformops.store.sqlite import SqliteStore
from tests.faults import damage
from tests.faults.pipelines import Pipeline

FILES = {"training.safetensors": bytes(range(256)) * 40, "training.json": b'{"epoch": 1, "step": 0}'}


def checkpoint(folder, epoch):
    def write(place):
        for name, content in FILES.items():
            (place / name).write_bytes(content)

    return write_checkpoint(folder, epoch, write)


def test_every_damage_of_the_newest_checkpoint_is_found_and_the_one_before_it_used(tmp_path):
    folder = tmp_path / "checkpoints"
    checkpoint(folder, 1)
    checkpoint(folder, 2)
    tried = 0
    for path in damage.files_below(folder / "epoch-000002"):
        every = 1 if path.name == "checkpoint.json" else 1024
        for name, harm in damage.kinds(path, every=every):
            with damage.undone(folder, tmp_path / "aside"):
                harm()
                newest, damaged = newest_verified(folder)
                assert newest is not None, f"{path.name}: {name}"
                assert newest.name == "epoch-000001", f"{path.name}: {name} was not found"
                assert damaged[0].startswith("epoch-000002: "), "and it is named"
                assert newest_verified(folder) == (newest, ()), "moved aside, it is not judged again"
            tried += 1
    assert tried > 300
    assert newest_verified(folder)[0].name == "epoch-000002"


def test_a_checkpoint_under_the_name_of_another_epoch_is_found(tmp_path):
    checkpoint(tmp_path, 1)
    checkpoint(tmp_path, 2).rename(tmp_path / "epoch-000009")
    assert newest_verified(tmp_path)[0].name == "epoch-000001"


def test_checkpoints_of_one_epoch_may_be_damaged_again_and_again(tmp_path):
    for _ in range(3):
        damage.flip(checkpoint(tmp_path, 1) / "training.json", 3)
        newest, damaged = newest_verified(tmp_path)
        assert newest is None
        assert len(damaged) == 1
    assert checkpoint(tmp_path, 1) == newest_verified(tmp_path)[0]


def test_every_damage_of_an_artifact_is_found_when_it_is_opened(tmp_path):
    artifacts = DirectoryArtifacts(tmp_path / "artifacts")
    staging = artifacts.staging("f1")
    for name, content in FILES.items():
        (staging / name).write_bytes(content)
    digest = artifacts.publish("f1", staging)
    tried = 0
    for path in damage.files_below(tmp_path / "artifacts" / "f1"):
        for name, harm in damage.kinds(path, every=1 if path.name == "manifest.json" else 1024):
            with damage.undone(tmp_path / "artifacts", tmp_path / "aside"):
                harm()
                with pytest.raises(ArtifactCorrupt):
                    pytest.fail(f"{path.name}: {name} was not found: {artifacts.open('f1', digest)}")
            tried += 1
    assert tried > 300
    artifacts.open("f1", digest)


@pytest.mark.real
def test_a_damaged_artifact_of_a_finished_run_is_made_again_by_the_next_and_kept_aside(tmp_path):
    pipeline = Pipeline(tmp_path)
    write, read = pipeline.run().steps
    harms = (
        lambda folder: damage.flip(folder / "files" / "part.bin", 1000),
        lambda folder: damage.truncate(folder / "manifest.json", 20),
        lambda folder: damage.delete(folder / "files" / "deep"),
    )
    for harm in harms:
        harm(tmp_path / "home" / "artifacts" / write.fingerprint)
        again = pipeline.run()
        assert again.state is RunState.SUCCEEDED
        assert [step.cached for step in again.steps] == [False, True]
        assert again.steps[1].manifest_digest == read.manifest_digest
    assert pipeline.began() == ["write", "read", "write", "write", "write"]
    assert len([name for name in pipeline.left_aside() if name.startswith(".quarantine")]) == 3


CRASHED = """
import os, signal, sys
from pathlib import Path
from platformops.store.sqlite import SqliteStore
store = SqliteStore(Path(sys.argv[1]))
for n in range(40):
    store.put(f"k/{n:02d}", {"n": n, "pad": "x" * 1500}, expect=0)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def crashed(tmp_path):
    """A store of 40 acknowledged writes whose process was killed: most are in the write-ahead log alone."""
    path = tmp_path / "store.db"
    done = subprocess.run([sys.executable, "-c", CRASHED, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    return path


def values(path):
    store = SqliteStore(path)
    try:
        return [entry.value["n"] for entry in store.scan("k/")]
    finally:
        store.close()


@pytest.mark.real
def test_every_damage_of_the_state_of_a_killed_process_is_found_or_changes_nothing(crashed, tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    files = [path for path in tmp_path.iterdir() if path.is_file()]
    for path in files:
        shutil.copy2(path, kept)

    def restore():
        for path in files:
            path.unlink(missing_ok=True)
            shutil.copy2(kept / path.name, path)

    assert values(crashed) == list(range(40))
    found = dict.fromkeys((path.name for path in files), 0)
    for path in files:
        for name, harm in damage.kinds(kept / path.name, every=5003):
            if name == "another file beside it":
                continue
            restore()
            del harm
            _harm(path, name)
            try:
                assert values(crashed) == list(range(40)), f"{path.name}: {name} lost or changed something unnoticed"
            except StoreUnavailable:
                found[path.name] += 1
    assert found["store.db"] > 0
    assert found["store.db-wal"] > 10


def _harm(path, name):
    """The damage of that name done to `path`."""
    dict(damage.kinds(path, every=5003))[name]()


@pytest.mark.real
def test_what_is_missing_is_counted_and_going_on_without_it_is_a_decision(crashed):
    damage.delete(crashed.with_name("store.db-wal"))
    with pytest.raises(StoreUnavailable, match=r"acknowledged write\(s\) are missing") as caught:
        SqliteStore(crashed)
    assert "store.db-commits" in caught.value.remedy
    crashed.with_name("store.db-commits").unlink()
    assert values(crashed) == list(range(len(values(crashed))))


@pytest.mark.real
def test_a_store_that_is_gone_is_not_begun_anew(crashed):
    for name in ("store.db", "store.db-wal", "store.db-shm"):
        crashed.with_name(name).unlink(missing_ok=True)
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match=r"40 acknowledged write\(s\) are missing"):
            SqliteStore(crashed)
    assert not crashed.exists()


def test_a_witness_that_is_damaged_or_cannot_be_written_stands_in_nobodys_way(tmp_path):
    path = tmp_path / "store.db"
    store = SqliteStore(path)
    store.put("k", {}, expect=ABSENT)
    witness = tmp_path / "store.db-commits"
    damage.flip(witness, 12)
    witness.unlink()
    witness.mkdir()
    store.put("k", {"n": 1}, expect=1)
    store.close()
    os.rmdir(witness)
    witness.write_bytes(b"\xff")
    assert SqliteStore(path).put("k", {"n": 2}, expect=2) == 3


def test_a_model_artifact_says_which_file_was_changed_after_it_was_published(tmp_path):
    artifacts = DirectoryArtifacts(tmp_path / "artifacts")
    staging = artifacts.staging("f1")
    (staging / "model.json").write_text(json.dumps({"width": 16}))
    digest = artifacts.publish("f1", staging)
    damage.flip(tmp_path / "artifacts" / "f1" / "files" / "model.json", -1)
    with pytest.raises(ArtifactCorrupt, match=r"f1: model\.json has other content"):
        artifacts.open("f1", digest)
