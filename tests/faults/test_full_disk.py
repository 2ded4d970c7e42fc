"""A full disk: said with its name and what is needed, nothing half there, and all goes on once there is room."""

import json
import os
import resource
import subprocess
import sys

import pytest
import torch

from platformops.errors import DiskFull, PlatformError, StoreUnavailable
from platformops.frameworks.weights import disk_errors
from platformops.on_ray.checkpoints import newest_verified, write_checkpoint
from platformops.pipeline.records import RunState
from platformops.store.directory import DirectoryArtifacts
from platformops.store.records import ABSENT
from platformops.store.sqlite import SqliteStore
from tests.faults import small_disk
from tests.faults.pipelines import Pipeline

pytestmark = [pytest.mark.real, pytest.mark.skipif(bool(small_disk.why_not()), reason=small_disk.why_not())]
MB = 1_000_000


@pytest.fixture
def disk(tmp_path):
    with small_disk.small_disk(tmp_path / "disk", "size=4m") as made:
        yield made


def test_a_run_whose_stage_fills_the_disk_waits_and_goes_on_by_itself_once_there_is_room(disk, tmp_path):
    pipeline = Pipeline(tmp_path / "project", disk.root / "home")
    disk.fill(leave_bytes=MB)
    told = []

    def make_room(progress):
        if progress.state == "waiting":
            told.append((progress.message, pipeline.began(), pipeline.left_aside(), disk.free_bytes()))
            disk.free()

    result = pipeline.run(size=2 * MB, retries=0, on_progress=make_room)
    assert result.state is RunState.SUCCEEDED
    assert pipeline.began() == ["write", "write", "read"], "what waits for room costs no retry"
    ((message, began, left, free_bytes),) = told
    assert f"the disk at {disk.root} has" in message
    assert "goes on by itself once 1.0 MB or more are freed there" in message
    assert (began, left) == (["write"], []), "what was half written is gone, and with it the space it took"
    assert free_bytes > 0.8 * MB


def test_a_disk_that_is_full_when_the_run_starts_is_said_and_what_was_done_stays(disk, tmp_path):
    pipeline = Pipeline(tmp_path / "project", disk.root / "home")
    first = pipeline.run()
    disk.fill()
    with pytest.raises(StoreUnavailable, match="the disk is full") as caught:
        pipeline.run()
    assert f"the disk at {disk.root} has" in caught.value.message
    disk.free()
    again = pipeline.run()
    assert [step.cached for step in again.steps] == [True, True]
    assert [s.manifest_digest for s in again.steps] == [s.manifest_digest for s in first.steps]


def test_a_store_on_a_full_disk_refuses_writes_whole_and_goes_on_reading(disk):
    store = SqliteStore(disk.root / "store.db")
    store.put("old", {"n": 1}, expect=ABSENT)
    disk.fill()
    with pytest.raises(StoreUnavailable, match="the disk is full"):
        count_up(store)
    assert store.get("old").value == {"n": 1}
    there = store.get("new")
    disk.free()
    store.put("new", {"n": -1}, expect=there.version if there else ABSENT)
    store.close()


def count_up(store):
    """Writes until it may not, and each time finds what it wrote, whole."""
    for number in range(1, 200):
        assert store.put("new", {"n": number, "pad": "x" * 3000}, expect=number - 1) == number
        assert store.get("new").value["n"] == number


def test_a_publish_that_fills_the_disk_leaves_nothing_and_names_the_disk(disk):
    artifacts = DirectoryArtifacts(disk.root / "artifacts")
    staging = artifacts.staging("f1")
    for number in range(40):
        (staging / f"{number}").write_bytes(b"x")
    disk.fill()
    with pytest.raises(DiskFull, match=f"the disk at {disk.root} has") as caught:
        artifacts.publish("f1", staging)
    assert "free space" in caught.value.remedy
    assert not artifacts.exists("f1")
    disk.free()
    artifacts.publish("f1", staging)


def checkpoint(folder, epoch, size):
    return write_checkpoint(folder, epoch, lambda place: (place / "model.bin").write_bytes(b"x" * size))


def test_a_checkpoint_that_does_not_fit_is_refused_before_it_is_written_and_the_last_one_stays(disk):
    folder = disk.root / "checkpoints"
    checkpoint(folder, 1, MB)
    disk.fill(leave_bytes=MB // 2)
    with pytest.raises(DiskFull) as caught:
        checkpoint(folder, 2, MB)
    assert f"the disk at {disk.root} has" in caught.value.message
    assert "1.0 MB are needed" in caught.value.message
    assert "free 5" in caught.value.remedy
    newest, damaged = newest_verified(folder)
    assert (newest.name, damaged) == ("epoch-000001", ())
    disk.free()
    assert checkpoint(folder, 2, MB).is_dir()


def test_a_checkpoint_that_fits_only_without_the_oldest_one_takes_its_room(disk):
    folder = disk.root / "checkpoints"
    checkpoint(folder, 1, MB)
    checkpoint(folder, 2, MB)
    disk.fill(leave_bytes=MB // 2)
    checkpoint(folder, 3, MB)
    assert sorted(path.name for path in folder.iterdir()) == ["epoch-000002", "epoch-000003"]


def test_a_checkpoint_that_grows_beyond_the_disk_is_removed_and_the_last_one_stays(disk):
    folder = disk.root / "checkpoints"
    checkpoint(folder, 1, MB)
    disk.fill(leave_bytes=2 * MB)
    with pytest.raises(DiskFull, match="writing that of epoch 2 failed: the disk is full"):
        checkpoint(folder, 2, 3 * MB)
    assert [path.name for path in folder.iterdir()] == ["epoch-000001"]
    assert disk.free_bytes() > MB


def test_weights_that_do_not_fit_are_an_error_of_the_disk_as_for_any_file(disk):
    from safetensors.torch import save_file

    disk.fill(leave_bytes=MB)
    path = disk.root / "model.safetensors"
    tensors = {"a": torch.zeros(MB)}
    with pytest.raises(OSError, match="No space left") as caught, disk_errors(path):
        save_file(tensors, path)
    assert caught.value.filename == str(path)


def test_a_disk_without_inodes_is_said_to_have_none(tmp_path):
    with small_disk.small_disk(tmp_path / "disk", "size=4m,nr_inodes=60") as disk:
        artifacts = DirectoryArtifacts(disk.root / "artifacts")
        artifacts.discard(artifacts.staging("f1"))
        disk.use_up_inodes()
        with pytest.raises(DiskFull, match="has no inode left"):
            artifacts.staging("f1")
        with pytest.raises(DiskFull, match="has no inode left"):
            checkpoint(disk.root / "artifacts", 1, 10)
        disk.free()
        staging = artifacts.staging("f1")
        (staging / "file").write_bytes(b"")
        artifacts.publish("f1", staging)


HUNGRY = """
import json, os, sys
from pathlib import Path
from platformops.errors import PlatformError
from platformops.on_ray.checkpoints import write_checkpoint
from platformops.store.directory import DirectoryArtifacts
from platformops.store.sqlite import SqliteStore

folder = Path(sys.argv[1])
store, artifacts = SqliteStore(folder / "store.db"), DirectoryArtifacts(folder / "artifacts")
put = lambda: store.put("k", {}, expect=None)
def opened(): SqliteStore(folder / "store.db").close()
def published():
    staging = artifacts.staging("f1")
    (staging / "file").write_bytes(b"x")
    artifacts.publish("f1", staging)
def checkpointed(): write_checkpoint(folder / "c", 1, lambda place: (place / "file").write_bytes(b"x"))
put(), checkpointed(), artifacts.discard(artifacts.staging("f1"))
held = []
while True:
    try: held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError: break
said = []
for use in (put, opened, published, checkpointed):
    try: use()
    except PlatformError as error: said.append(error.message)
    else: said.append("went well")
for fd in held: os.close(fd)
for use in (put, opened, published, checkpointed): use()
print(json.dumps(said))
"""


def test_without_descriptors_each_use_says_so_and_works_again_once_some_are_free(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", HUNGRY, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)),
        env={**os.environ},
    )
    assert done.returncode == 0, done.stderr
    put, *others = json.loads(done.stdout)
    assert put == "went well", "its connection is open"
    assert all("too many files are open" in said for said in others), others


def test_an_error_of_the_disk_is_a_platform_error_of_its_own_kind():
    assert issubclass(DiskFull, PlatformError)
    assert DiskFull.exit_code == 1
