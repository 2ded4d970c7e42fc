"""Copies of the embedded store and of local artifacts that can be proved whole, made while everything runs."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from urllib.parse import quote

from platformops.errors import ArtifactCorrupt, StoreUnavailable
from platformops.store.directory import MANIFEST, DirectoryArtifacts, sync_folder
from platformops.store.manifest import LARGEST_BYTES, digest_of
from platformops.store.rows import Row, entry_of
from platformops.store.sqlite_file import APPLICATION_ID
from platformops.store.trouble import named

LAST = "backup/last"
"""Key of the certificate of the newest backup."""


@dataclass(frozen=True, slots=True)
class StoreCopy:
    commits: int
    entries: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ArtifactsCopy:
    copied: int
    there: int
    """Already, and not copied again: an artifact never changes."""
    damaged: tuple[str, ...] = ()
    """In the source, each with what is wrong with it; not copied."""


def copy_store(source: Path, target: Path) -> StoreCopy:
    """The store at `source` as of one instant, every row of the copy checked; it replaces `target` as a whole.

    Whoever writes to the source goes on writing. Raises StoreUnavailable where either place fails, or a row is damaged.
    """
    aside = target.with_name(f".{target.name}.part")
    with named(f"backup {target}", "copying the store", at=target.parent), _told(source):
        aside.unlink(missing_ok=True)
        try:
            with closing(sqlite3.connect(f"file:{quote(str(source))}?mode=ro", uri=True)) as old:
                _check_owner(old, source)
                with closing(sqlite3.connect(aside)) as new:
                    old.backup(new)
                    new.execute("PRAGMA journal_mode = DELETE")
                    commits, entries = _checked(new, aside)
            aside.chmod(0o600)
            size, digest = _durable(aside)
            aside.replace(target)
            sync_folder(target.parent)
        finally:
            aside.unlink(missing_ok=True)
    return StoreCopy(commits, entries, size, digest)


def copy_artifacts(source: Path, target: Path) -> ArtifactsCopy:
    """Every artifact that is in `source` and not in `target`, verified on both sides."""
    old, new = DirectoryArtifacts(source), DirectoryArtifacts(target)
    copied, there, damaged = 0, 0, list[str]()
    for fingerprint in _fingerprints(source):
        if new.exists(fingerprint):
            there += 1
            continue
        try:
            digest = digest_of((source / fingerprint / MANIFEST).read_bytes()[:LARGEST_BYTES])
            files = old.open(fingerprint, digest)
        except ArtifactCorrupt as error:
            damaged.append(f"{fingerprint}: {error.message}")
            continue
        with named(f"backup {target}", f"copying {fingerprint}", at=target):
            staging = new.staging(fingerprint)
            shutil.copytree(files, staging, dirs_exist_ok=True, copy_function=shutil.copyfile)
            if new.publish(fingerprint, staging) != digest:
                raise ArtifactCorrupt(f"{fingerprint} changed while it was copied")
        copied += 1
    return ArtifactsCopy(copied, there, tuple(damaged))


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _fingerprints(root: Path) -> Sequence[str]:
    if not root.is_dir():
        return ()
    return sorted(p.name for p in root.iterdir() if not p.name.startswith(".") and (p / MANIFEST).is_file())


def _check_owner(connection: sqlite3.Connection, source: Path) -> None:
    (owner,) = connection.execute("PRAGMA application_id").fetchone()
    if owner != APPLICATION_ID:
        raise StoreUnavailable(f"{source} is no store of this platform", remedy="name the folder of a backup")


def _checked(connection: sqlite3.Connection, place: Path) -> tuple[int, int]:
    """Commits and living entries of the copy. Raises StoreUnavailable for damage that the source hid."""
    (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if found != "ok":
        raise StoreUnavailable(f"the store is damaged ({found})", remedy="restore it from an earlier backup")
    entries = 0
    for row in connection.execute("SELECT key, value, version, checksum FROM entries"):
        entries += entry_of(Row(*row), place=str(place)) is not None
    ((commits,),) = connection.execute("SELECT number FROM commits").fetchall()
    return int(commits), entries


def _durable(path: Path) -> tuple[int, str]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return path.stat().st_size, sha256_of(path)


@contextmanager
def _told(source: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreUnavailable(f"{source} cannot be copied: {error}", remedy="check both disks") from error
