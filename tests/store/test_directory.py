"""How artifacts in a local folder meet a disk that fails and writers that die."""

import errno
import importlib
import os
import shutil
import subprocess
import sys

import pytest

from platformops.errors import ArtifactCorrupt, PlatformError
from platformops.store.artifacts import Artifacts
from platformops.store.directory import DirectoryArtifacts
from platformops.store.staging import Staging


@pytest.fixture
def root(tmp_path):
    return tmp_path / "artifacts"


@pytest.fixture
def artifacts(root):
    return DirectoryArtifacts(root)


def publish(artifacts, fingerprint="f1", content=b"content"):
    staging = artifacts.staging(fingerprint)
    (staging / "file").write_bytes(content)
    return artifacts.publish(fingerprint, staging)


def test_what_a_dead_writer_left_is_swept_and_what_a_living_one_has_is_kept(artifacts, root):
    mine = artifacts.staging("f1")
    code = (
        "import sys; from pathlib import Path; from platformops.store.directory import DirectoryArtifacts\n"
        "print((DirectoryArtifacts(Path(sys.argv[1])).staging('f1') / 'half').write_bytes(b'x'))"
    )
    subprocess.run([sys.executable, "-c", code, str(root)], check=True, stdout=subprocess.DEVNULL)
    assert len(list((root / ".staging").iterdir())) == 2
    artifacts.staging("f2")
    assert len(list((root / ".staging").iterdir())) == 3, "another fingerprint is not its business"
    artifacts.staging("f1")
    left = {path.name[:2] for path in (root / ".staging").iterdir()}
    assert mine.is_dir()
    assert left == {"f1", "f2"}
    assert not list((root / ".staging").glob("*/files/half"))


def test_a_failed_publish_can_be_tried_again(artifacts, monkeypatch):
    staging = artifacts.staging("f1")
    (staging / "file").write_bytes(b"content")
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", raising(errno.EIO))
        with pytest.raises(PlatformError, match=r"publishing f1 failed: the disk failed"):
            artifacts.publish("f1", staging)
    assert not artifacts.exists("f1")
    assert (artifacts.open("f1", artifacts.publish("f1", staging)) / "file").read_bytes() == b"content"


def raising(number):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    return fail


def test_a_file_in_the_place_of_an_artifact_is_moved_aside(artifacts, root):
    root.mkdir()
    (root / "f1").write_bytes(b"in the way")
    digest = publish(artifacts)
    assert (artifacts.open("f1", digest) / "file").read_bytes() == b"content"
    (kept,) = (root / ".quarantine").glob("*/artifact")
    assert kept.read_bytes() == b"in the way"


def test_a_link_in_the_place_of_an_artifact_is_refused(artifacts, root):
    digest = publish(artifacts)
    (root / "f1").rename(root / "f9")
    (root / "f1").symlink_to(root / "f9")
    with pytest.raises(ArtifactCorrupt, match="is a link"):
        artifacts.open("f1", digest)


@pytest.mark.parametrize("name", ["files", "manifest.json"])
def test_a_link_in_the_place_of_a_part_is_refused(artifacts, root, name, tmp_path):
    digest = publish(artifacts)
    (root / "f1" / name).rename(tmp_path / "elsewhere")
    (root / "f1" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtifactCorrupt, match="missing"):
        artifacts.open("f1", digest)


def test_a_file_beside_the_manifest_is_refused(artifacts, root):
    digest = publish(artifacts)
    (root / "f1" / "more").write_bytes(b"")
    with pytest.raises(ArtifactCorrupt, match="'more' is not in the manifest"):
        artifacts.open("f1", digest)


def test_a_manifest_that_is_too_large_to_be_one_is_not_read_into_memory(artifacts, root):
    digest = publish(artifacts)
    (root / "f1" / "manifest.json").chmod(0o644)
    with (root / "f1" / "manifest.json").open("r+b") as file:
        file.truncate(1 << 40)  # a file of holes: reading it would end this process
    with pytest.raises(ArtifactCorrupt, match=r"manifest.json is larger than a manifest can be"):
        artifacts.open("f1", digest)


def test_an_artifact_of_a_newer_program_is_left_where_it_is(artifacts, root):
    publish(artifacts)
    manifest = root / "f1" / "manifest.json"
    newer = manifest.read_bytes().replace(b'"format":1', b'"format":2')
    manifest.write_bytes(newer)
    with pytest.raises(PlatformError, match="newer PlatformOps"):
        publish(artifacts)
    assert manifest.read_bytes() == newer


def test_a_path_below_a_file_is_said(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(PlatformError, match="making room for f1 failed: a part of the path is a file"):
        DirectoryArtifacts(tmp_path / "file" / "artifacts").staging("f1")


@pytest.mark.real
@pytest.mark.skipif(os.getuid() != 0 or shutil.which("mount") is None, reason="only root can mount a small disk")
def test_a_full_and_a_read_only_disk_are_said_with_the_place_and_nothing_is_visible(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        artifacts = DirectoryArtifacts(disk / "artifacts")
        digest = publish(artifacts, "f0")
        staging = artifacts.staging("f1")
        fill(staging / "file")
        with pytest.raises(PlatformError, match=r"publishing f1 failed: the disk is full") as caught:
            artifacts.publish("f1", staging)
        assert str(disk) in caught.value.message
        assert not artifacts.exists("f1")
        artifacts.discard(staging)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(PlatformError, match="making room for f1 failed: the file system is read-only"):
            artifacts.staging("f1")
        assert (artifacts.open("f0", digest) / "file").read_bytes() == b"content"
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(path):
    with path.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        file.writelines(b"x" * 4096 for _ in range(1000))


@pytest.mark.real
@pytest.mark.skipif(os.getuid() != 0, reason="permissions are tried as another user")
def test_a_folder_without_permission_is_said(artifacts, root):
    root.mkdir(mode=0o700)
    os.seteuid(65534)
    try:
        with pytest.raises(PlatformError, match="this user may not"):
            artifacts.staging("f1")
    finally:
        os.seteuid(0)


def test_a_sweep_between_making_and_locking_only_costs_another_try(tmp_path, monkeypatch):
    staging, real = Staging(tmp_path / "s"), os.open
    swept = []

    def open_after_a_sweep(path, *rest, **named):
        if not swept:
            swept.append(path)
            shutil.rmtree(path)
        return real(path, *rest, **named)

    monkeypatch.setattr(os, "open", open_after_a_sweep)
    made = staging.make("f1")
    assert made.is_dir()
    assert made.parent != swept[0]


@pytest.mark.parametrize("url", ["http://host/a", "memory://a", "ftp://a", "S3://a"])
def test_a_url_of_another_scheme_is_refused(url, tmp_path):
    with pytest.raises(PlatformError, match="no artifacts are kept at"):
        Artifacts(url, cache=tmp_path)


def test_a_file_url_is_a_local_folder(tmp_path):
    digest = publish(Artifacts(f"file://{tmp_path}/a", cache=tmp_path / "c"))
    assert (Artifacts(str(tmp_path / "a"), cache=tmp_path / "c").open("f1", digest) / "file").exists()


def test_a_missing_package_is_named_with_the_command(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    known = importlib.import_module("fsspec.registry")._registry
    monkeypatch.delitem(known, "s3", raising=False)  # there once any test has used it
    with pytest.raises(PlatformError, match=r"pip install 'platformops\[s3\]'"):
        Artifacts("s3://bucket/a", cache=tmp_path).exists("f1")
