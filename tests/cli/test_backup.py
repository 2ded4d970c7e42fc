"""Backups: whole while others write, certified, copied once, refused when a byte is wrong, and the way back."""

import fcntl
import json
import shutil
import subprocess
import sys
from contextlib import closing

import pytest

from platformops.observation import metrics
from platformops.observation.platform_state import readings
from platformops.store.artifacts import Artifacts
from platformops.store.open import open_store

WRITER = """
import sys
from platformops.store.open import open_store
store = open_store(sys.argv[1])
for number in range(100_000):
    store.put(f"n/{number:06}", {"number": number}, expect=0)
    if number == 50:
        print("writing", flush=True)
"""


def url_of(home):
    return f"sqlite:///{home / 'store.db'}"


def publish(home, fingerprint, text):
    artifacts = Artifacts(str(home / "artifacts"), cache=home / "cache")
    staging = artifacts.staging(fingerprint)
    (staging / "model.txt").write_text(text)
    return artifacts.publish(fingerprint, staging)


@pytest.fixture
def full(home):
    """A home with a record and two artifacts; their digests."""
    home.mkdir(parents=True)
    with closing(open_store(url_of(home))) as store:
        store.put("system/digits", {"wanted": "up"}, expect=None)
    return {name * 64: publish(home, name * 64, f"weights {name}") for name in "ab"}


def test_what_was_backed_up_is_there_again_after_all_is_lost(platformops, home, full, tmp_path, monkeypatch):
    told = platformops("backup", str(tmp_path / "b"), "--json")
    assert told.code == 0
    assert (told.json["entries"], told.json["artifacts"], told.json["artifacts_new"]) == (1, 2, 2)
    other = tmp_path / "other"
    monkeypatch.setenv("PLATFORMOPS_HOME", str(other))
    back = platformops("backup", str(tmp_path / "b"), "--restore")
    assert back.code == 0
    with closing(open_store(url_of(other))) as store:
        assert store.get("system/digits").value == {"wanted": "up"}
    artifacts = Artifacts(str(other / "artifacts"), cache=other / "cache")
    for fingerprint, digest in full.items():
        assert (artifacts.open(fingerprint, digest) / "model.txt").read_text() == f"weights {fingerprint[0]}"


def test_a_second_backup_copies_only_what_is_new_and_the_certificate_says_its_age(platformops, home, full, tmp_path):
    platformops("backup", str(tmp_path / "b"))
    publish(home, "c" * 64, "weights c")
    told = platformops("backup", str(tmp_path / "b"), "--json").json
    assert (told["artifacts"], told["artifacts_new"]) == (3, 1)
    with closing(open_store(url_of(home))) as store:
        found = {r.metric: r.value for r in readings(store, now=told["at"] + 60.0)}
    assert found[metrics.BACKUP_AGE] == pytest.approx(60.0)
    assert json.loads((tmp_path / "b" / "backup.json").read_text())["store_sha256"] == told["store_sha256"]


def test_a_copy_made_while_another_process_writes_is_one_instant(platformops, home, full, tmp_path, monkeypatch):
    writer = subprocess.Popen([sys.executable, "-c", WRITER, url_of(home)], stdout=subprocess.PIPE, text=True)
    try:
        assert writer.stdout.readline() == "writing\n"
        assert platformops("backup", str(tmp_path / "b")).code == 0
    finally:
        writer.kill()
        writer.communicate()
    (path,) = (tmp_path / "b").glob("store-*.db")
    with closing(open_store(f"sqlite:///{path}")) as copy:
        numbers = [e.value["number"] for e in copy.scan("n/")]
    assert len(numbers) >= 50
    assert numbers == list(range(len(numbers))), "no gap: what was acknowledged before an entry is there with it"


def test_a_damaged_artifact_is_named_left_out_and_an_error(platformops, home, full, tmp_path):
    path = home / "artifacts" / ("a" * 64) / "files" / "model.txt"
    path.chmod(0o644)
    path.write_text("weights x")
    told = platformops("backup", str(tmp_path / "b"), "--json")
    assert told.code == 1
    assert told.json["artifacts"] == 1
    assert "model.txt" in told.json["damaged"][0]


def test_a_store_that_was_changed_is_refused_and_nothing_is_brought_back(platformops, full, tmp_path, monkeypatch):
    platformops("backup", str(tmp_path / "b"))
    (path,) = (tmp_path / "b").glob("store-*.db")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x40
    path.write_bytes(content)
    monkeypatch.setenv("PLATFORMOPS_HOME", str(tmp_path / "other"))
    refused = platformops("backup", str(tmp_path / "b"), "--restore")
    assert refused.code == 1
    assert "certificate" in refused.err
    assert "Traceback" not in refused.err
    assert not (tmp_path / "other" / "store.db").exists()


def test_nothing_is_overwritten_and_what_is_no_backup_is_said(platformops, home, full, tmp_path):
    platformops("backup", str(tmp_path / "b"))
    refused = platformops("backup", str(tmp_path / "b"), "--restore")
    assert refused.code == 2
    assert "nothing is overwritten" in refused.err
    (tmp_path / "empty").mkdir()
    assert platformops("backup", str(tmp_path / "empty"), "--restore").code == 2


def test_a_backup_that_breaks_off_leaves_the_one_before(platformops, home, full, tmp_path, monkeypatch):
    platformops("backup", str(tmp_path / "b"))
    with closing(open_store(url_of(home))) as store:
        store.put("system/more", {}, expect=None)
    there, away = tmp_path / "b" / "artifacts", tmp_path / "away"
    there.rename(away)
    there.write_text("a file where a folder belongs")
    assert platformops("backup", str(tmp_path / "b")).code != 0
    there.unlink()
    away.rename(there)
    monkeypatch.setenv("PLATFORMOPS_HOME", str(tmp_path / "other"))
    assert platformops("backup", str(tmp_path / "b"), "--restore", "--json").json["entries"] == 1


def test_one_store_is_kept_and_the_certificate_names_no_other_place(platformops, home, full, tmp_path, monkeypatch):
    for number in range(2):
        with closing(open_store(url_of(home))) as store:
            store.put("n", {"number": number}, expect=None)
        platformops("backup", str(tmp_path / "b"))
    (kept,) = (tmp_path / "b").glob("*.db")
    certificate = tmp_path / "b" / "backup.json"
    certificate.write_text(certificate.read_text().replace(kept.name, "../home/store.db"))
    monkeypatch.setenv("PLATFORMOPS_HOME", str(tmp_path / "other"))
    assert platformops("backup", str(tmp_path / "b"), "--restore").code == 2


def test_a_store_on_a_server_has_backups_of_its_own(platformops, tmp_path, monkeypatch):
    monkeypatch.setenv("PLATFORMOPS_STORE", "postgresql://u@127.0.0.1:1/x")
    refused = platformops("backup", str(tmp_path / "b"))
    assert refused.code == 2
    assert "pg_dump" in refused.err


def test_a_store_that_lost_writes_takes_no_good_copys_place(platformops, home, full, tmp_path, monkeypatch):
    platformops("backup", str(tmp_path / "b"))
    good = (tmp_path / "b" / "backup.json").read_text()
    with closing(open_store(url_of(home))) as store:
        store.put("n", {}, expect=None)
    other = tmp_path / "older"
    monkeypatch.setenv("PLATFORMOPS_HOME", str(other))
    platformops("backup", str(tmp_path / "b"), "--restore")
    for suffix in ("", "-wal", "-shm"):  # the store as it was before its last write
        path = home / f"store.db{suffix}"
        path.unlink(missing_ok=True)
    (home / "store.db").write_bytes((other / "store.db").read_bytes())
    monkeypatch.setenv("PLATFORMOPS_HOME", str(home))
    refused = platformops("backup", str(tmp_path / "b"))
    assert refused.code != 0
    assert "acknowledged" in refused.err
    assert (tmp_path / "b" / "backup.json").read_text() == good
    assert len(list((tmp_path / "b").glob("store-*.db"))) == 1


def test_files_of_others_in_the_folder_stay(platformops, full, tmp_path):
    (tmp_path / "b").mkdir()
    mine = [tmp_path / "b" / name for name in ("store-2026-05-01.db", "store-0123456789abcdef.db")]
    for path in mine:
        path.write_text("mine")
    platformops("backup", str(tmp_path / "b"))
    assert all(path.read_text() == "mine" for path in mine)


def test_a_copy_that_rotted_is_found_and_made_anew(platformops, full, tmp_path):
    platformops("backup", str(tmp_path / "b"))
    path = tmp_path / "b" / "artifacts" / ("a" * 64) / "files" / "model.txt"
    path.chmod(0o644)
    path.write_text("weights x")
    told = platformops("backup", str(tmp_path / "b"), "--json")
    assert (told.code, told.json["artifacts_new"]) == (0, 1)
    assert path.read_text() == "weights a"


def test_a_backup_without_an_artifact_of_its_certificate_is_refused(platformops, full, tmp_path, monkeypatch):
    platformops("backup", str(tmp_path / "b"))
    shutil.rmtree(tmp_path / "b" / "artifacts" / ("a" * 64))
    monkeypatch.setenv("PLATFORMOPS_HOME", str(tmp_path / "other"))
    refused = platformops("backup", str(tmp_path / "b"), "--restore")
    assert refused.code == 1
    assert "1 of the 2 artifacts" in refused.err
    assert not (tmp_path / "other" / "store.db").exists()


def test_what_a_lost_store_left_beside_it_is_not_taken_for_a_part_of_the_new_one(platformops, home, full, tmp_path):
    platformops("backup", str(tmp_path / "b"))
    for suffix in ("", "-wal", "-shm"):
        (home / f"store.db{suffix}").unlink(missing_ok=True)
    (home / "store.db-wal").write_bytes(b"x")
    refused = platformops("backup", str(tmp_path / "b"), "--restore")
    assert refused.code == 2
    assert "store.db-wal" in refused.err


def test_two_backups_into_one_folder_do_not_meet(platformops, full, tmp_path):
    platformops("backup", str(tmp_path / "b"))
    with (tmp_path / "b" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = platformops("backup", str(tmp_path / "b"))
    assert refused.code == 2
    assert "under way" in refused.err
    assert platformops("backup", str(tmp_path / "b")).code == 0


def test_nobody_else_may_read_the_copy_of_the_store(platformops, full, tmp_path):
    platformops("backup", str(tmp_path / "b"))
    (path,) = (tmp_path / "b").glob("store-*.db")
    assert path.stat().st_mode & 0o077 == 0
