"""How the embedded store fails: always in words, never by half."""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager

import pytest

from platformops.errors import StoreUnavailable
from platformops.store.records import ABSENT, Put
from platformops.store.sqlite import SqliteStore

NOBODY = 65534


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store.db"


@pytest.fixture
def filled(path):
    """A closed store with 200 entries."""
    store = SqliteStore(path)
    store.commit([Put(f"k/{i:04d}", {"i": i, "pad": "x" * 300}, ABSENT) for i in range(200)])
    store.close()
    return path


@contextmanager
def as_nobody(*readable):
    """Root may do anything, so permissions are tried as somebody else."""
    if os.getuid() != 0:
        yield
        return
    for path in readable:
        for folder in [path, *path.parents]:
            if folder.stat().st_uid == 0 and not folder.stat().st_mode & 0o001:
                folder.chmod(folder.stat().st_mode | 0o011)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_missing_folder_is_named_with_the_command_that_makes_it(tmp_path):
    with pytest.raises(StoreUnavailable, match=r"nowhere does not exist") as caught:
        SqliteStore(tmp_path / "nowhere" / "store.db")
    assert caught.value.remedy == f"create it: mkdir -p {tmp_path / 'nowhere'}"


def test_a_folder_in_place_of_the_file_is_refused(tmp_path):
    with pytest.raises(StoreUnavailable, match="it is a folder"):
        SqliteStore(tmp_path)


def test_a_file_that_is_no_database_is_refused_and_left_alone(path):
    path.write_bytes(b"something else entirely" * 100)
    with pytest.raises(StoreUnavailable, match="corrupt, or no store"):
        SqliteStore(path)
    assert path.read_bytes() == b"something else entirely" * 100


def test_a_database_of_another_program_is_refused_and_left_alone(path):
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE entries (anything)")
        other.commit()
    before = path.read_bytes()
    with pytest.raises(StoreUnavailable, match="another program"):
        SqliteStore(path)
    assert path.read_bytes() == before


def test_an_older_program_refuses_a_newer_store(filled):
    with closing(sqlite3.connect(filled)) as newer:
        newer.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreUnavailable, match="newer PlatformOps \\(schema 99, this one knows 3\\)") as caught:
        SqliteStore(filled)
    assert "upgrade" in caught.value.remedy


def test_an_empty_file_becomes_a_store(path):
    path.touch()
    store = SqliteStore(path)
    assert store.put("k", {}, expect=ABSENT) == 1
    store.close()


def test_the_path_is_the_one_at_opening_even_after_a_change_of_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = SqliteStore((tmp_path / "store.db").relative_to(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    store.put("k", {}, expect=ABSENT)
    store.close()
    assert not (tmp_path / "elsewhere" / "store.db").exists()


def test_a_writer_that_is_locked_out_says_so_while_readers_go_on(filled):
    store = SqliteStore(filled, busy_timeout_s=0.05)
    with closing(sqlite3.connect(filled, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="another process holds it locked"):
            store.put("k/0000", {}, expect=1)
        assert store.get("k/0000").version == 1
        other.execute("ROLLBACK")
    assert store.put("k/0000", {}, expect=1) == 2, "and it recovers by itself"
    store.close()


def test_a_truncated_file_is_refused(filled):
    os.truncate(filled, 5000)
    with pytest.raises(StoreUnavailable, match="corrupt"):
        _read_all(filled)


def _read_all(path):
    store = SqliteStore(path)
    try:
        return {entry.key: entry.value for entry in store.scan("")}
    finally:
        store.close()


def test_a_flipped_byte_is_found_or_changes_nothing(filled):
    """Every 97th byte of the file in turn: what is read is what was written, or an error."""
    sound, expected, found = filled.read_bytes(), _read_all(filled), 0
    for at in range(0, len(sound), 97):
        filled.write_bytes(sound[:at] + bytes([sound[at] ^ 0x41]) + sound[at + 1 :])
        try:
            assert _read_all(filled) == expected, f"byte {at} changed what is read"
        except StoreUnavailable:
            found += 1
    assert found > len(sound) / 97 / 2


def test_a_changed_value_is_found_by_its_checksum(filled):
    with closing(sqlite3.connect(filled)) as other:
        other.execute("UPDATE entries SET value = '{\"i\":7}' WHERE key = 'k/0003'")
        other.commit()
    store = SqliteStore(filled)
    for use in (
        lambda: store.get("k/0003"),
        lambda: store.scan("k/"),
        lambda: store.put("k/0003", {}, expect=None),
    ):
        with pytest.raises(StoreUnavailable, match="k/0003 is damaged"):
            use()
    assert store.get("k/0002").value["i"] == 2
    store.close()


def _write_one(path):
    store = SqliteStore(path)
    try:
        store.put("k", {}, expect=None)
    finally:
        store.close()


@pytest.mark.real
def test_a_read_only_file_can_be_read_and_says_so_when_written(filled):
    filled.chmod(0o444)
    filled.parent.chmod(0o555)
    try:
        with as_nobody(filled.parent), pytest.raises(StoreUnavailable, match=r"read-only|cannot be opened"):
            _write_one(filled)
    finally:
        filled.parent.chmod(0o755)
    assert len(_read_all(filled)) == 200


@pytest.mark.real
def test_a_file_without_permission_is_named_with_the_fix(filled):
    filled.chmod(0o000)
    with as_nobody(filled.parent), pytest.raises(StoreUnavailable, match="cannot be opened") as caught:
        SqliteStore(filled)
    assert "readable and writable for this user" in caught.value.remedy


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 512 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.getuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small file system")
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)], check=False)
    if done.returncode:
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.real
def test_a_full_disk_is_said_and_nothing_is_half_written(small_disk):
    store, pad = SqliteStore(small_disk / "store.db"), "x" * 3000
    written = 0
    try:
        for _ in range(1000):
            store.commit([Put(f"{side}/{written:04d}", {"pad": pad}, ABSENT) for side in "ab"])
            written += 1
    except StoreUnavailable as exc:
        said = exc.message
    assert "the disk is full" in said
    assert 10 < written < 1000
    assert len(store.scan("a/")) == len(store.scan("b/")) == written
    store.close()
    assert len(_read_all(small_disk / "store.db")) == 2 * written


@pytest.mark.real
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_put_costs_one_sync(path, tmp_path):
    code = (
        "import sys; from pathlib import Path; from platformops.store.sqlite import SqliteStore\n"
        "store = SqliteStore(Path(sys.argv[1]))\n"
        "store.put('warm', {}, expect=None)\n"
        "print('MARK', flush=True)\n"
        "for n in range(100): store.put('k', {'n': n}, expect=n)\n"
        "print('MARK', flush=True)\n"
    )
    log = tmp_path / "trace"
    calls = "trace=fsync,fdatasync,write"
    subprocess.run(
        ["strace", "-f", "-o", str(log), "-e", calls, sys.executable, "-c", code, str(path)], check=True,
        stdout=subprocess.DEVNULL, timeout=60,
    )  # fmt: skip
    between = log.read_text().split('"MARK')[1]
    assert 100 <= between.count("sync(") <= 105
