"""Copies of the embedded store and of local artifacts that can be proved whole, made while everything runs."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from urllib.parse import quote

from platformops.errors import ArtifactCorrupt, StoreUnavailable
from platformops.store.directory import DirectoryArtifacts, sync_folder
from platformops.store.rows import Row, entry_of
from platformops.store.sqlite_file import APPLICATION_ID
from platformops.store.trouble import named

NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)
"""Said by file systems that have none, as those of many removable disks."""
LAST = "backup/last"
"""Key of the certificate of the newest backup."""

Told = Callable[[int, int], None]
"""Is given how many artifacts have been gone through, of how many."""


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
    """Already, and sound: not copied again, as an artifact never changes."""
    damaged: tuple[str, ...] = ()
    """In the source, each with what is wrong with it; not copied."""


def copy_store(source: Path, target: Path) -> StoreCopy:
    """The store at `source` as of one instant, every row of the copy checked; `target` must not exist.

    Whoever writes to the source goes on writing. Raises PlatformError where either place fails or `target` is there,
    StoreUnavailable for a damaged row.
    """
    with named(f"copy {target}", "copying the store", at=target.parent), _aside(target) as aside:
        with _told(source), closing(sqlite3.connect(f"file:{quote(str(source))}?mode=ro", uri=True)) as old:
            _check_owner(old, source)
            with closing(sqlite3.connect(aside)) as new:
                old.backup(new)
                new.execute("PRAGMA journal_mode = DELETE")
                commits, entries = _checked(new, aside)
        size, digest = _durable(aside)
        _show(aside, target)
        sync_folder(target.parent)
    return StoreCopy(commits, entries, size, digest)


def copy_artifacts(source: Path, target: Path, tell: Told = lambda done, total: None) -> ArtifactsCopy:
    """Every artifact of `source` is in `target` on return, every byte of both read: what is damaged there is copied
    anew, and what is damaged in the source is left out and named."""
    old, new = DirectoryArtifacts(source), DirectoryArtifacts(target)
    copied, there, damaged = 0, 0, list[str]()
    fingerprints = _fingerprints(source)
    for done, fingerprint in enumerate(fingerprints):
        tell(done, len(fingerprints))
        with named(f"artifacts in {target}", f"copying {fingerprint}", at=target.parent):
            try:
                digest = old.digest(fingerprint)
                files = old.open(fingerprint, digest)
            except ArtifactCorrupt as error:
                damaged.append(f"{fingerprint}: {error.message}")
                continue
            kept = new.sound(fingerprint) if new.exists(fingerprint) else None
            if kept == digest:
                there += 1
                continue
            if kept is not None:
                new.quarantine(fingerprint, "its manifest is not that of the source")
            staging = new.staging(fingerprint)
            _copy_tree(files, staging)
            if new.publish(fingerprint, staging) != digest:
                new.quarantine(fingerprint, "it changed while it was copied")
                raise ArtifactCorrupt(f"{fingerprint} changed while it was copied")
            copied += 1
    return ArtifactsCopy(copied, there, tuple(damaged))


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _fingerprints(root: Path) -> Sequence[str]:
    with named(f"artifacts in {root}", "listing them"):
        names = os.listdir(root) if root.is_dir() else []
    return sorted(name for name in names if not name.startswith(".") and (root / name).is_dir())


def _copy_tree(source: Path, target: Path) -> None:
    for folder, _, names in os.walk(source):
        there = target / os.path.relpath(folder, source)
        there.mkdir(parents=True, exist_ok=True)
        for name in names:
            shutil.copyfile(Path(folder) / name, there / name)


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


def _show(aside: Path, target: Path) -> None:
    try:
        os.link(aside, target)  # unlike a rename, it never replaces what is there
    except OSError as error:
        if error.errno not in NO_LINKS or os.path.lexists(target):
            raise
        aside.rename(target)


@contextmanager
def _aside(target: Path) -> Iterator[Path]:
    """An empty file of this user's own beside `target`, gone afterwards."""
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
    os.close(descriptor)
    try:
        yield Path(name)
    finally:
        for left in target.parent.glob(f"{Path(name).name}*"):  # and what SQLite keeps beside it
            left.unlink(missing_ok=True)


@contextmanager
def _told(source: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreUnavailable(f"{source} cannot be copied: {error}", remedy="check both disks") from error
