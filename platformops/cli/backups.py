"""What `backup` does: the folder of a backup, its certificate, and the home that comes back from it."""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from platformops.cli import settings
from platformops.errors import PlatformError, UserError
from platformops.store.backup import LAST, ArtifactsCopy, Told, copy_artifacts, copy_store, sha256_of
from platformops.store.directory import sync_folder
from platformops.store.trouble import named
from platformops.store.witness import Witness

if TYPE_CHECKING:
    from platformops.home import Home
    from platformops.store.records import JsonObject

ARTIFACTS, CERTIFICATE = "artifacts", "backup.json"
STORE = re.compile(r"store-[0-9a-f]{16}\.db")
"""By what is in it: the certificate names it, so that both change in one instant."""
LOCAL_STORE = "sqlite:///"
BESIDE_STORE = ("", "-wal", "-shm", "-journal")


@dataclass(frozen=True, slots=True)
class Done:
    document: JsonObject
    damaged: tuple[str, ...]
    is_restored: bool = False


def made(folder: Path, home: Home, now: float) -> Done:
    """A backup in `folder`; its certificate is in the store as well. Raises PlatformError, and then the backup that
    was there before is as it was."""
    store_path, artifacts = _local(home)
    with settings.opened_store(home) as store, _alone(folder), _progress("backup") as tell:
        # Opened first: a store that has lost acknowledged writes is refused, and takes no good copy's place.
        before = _certified(folder)
        aside = folder / ".store.db"
        aside.unlink(missing_ok=True)  # of a backup that was killed
        copied = copy_store(store_path, aside)
        found = copy_artifacts(artifacts, folder / ARTIFACTS, tell)
        name = f"store-{copied.sha256[:16]}.db"
        certificate: JsonObject = {
            "at": now,
            "store": name,
            "commits": copied.commits,
            "entries": copied.entries,
            "store_bytes": copied.bytes,
            "store_sha256": copied.sha256,
            "artifacts": found.copied + found.there,
            "artifacts_new": found.copied,
            "damaged": list(found.damaged),
        }
        with named(f"backup {folder}", "writing the certificate", at=folder):
            aside.replace(folder / name)
            _write(folder, certificate)
            if before is not None and before["store"] != name:
                (folder / str(before["store"])).unlink(missing_ok=True)
        store.put(LAST, {**certificate, "to": str(folder)}, expect=None)
    return Done(certificate, found.damaged)


def restored(folder: Path, home: Home) -> Done:
    """What was brought back. Raises UserError for a home that has a store, PlatformError for a backup that is not what
    its certificate says; no store is there then."""
    store_path, artifacts = _local(home)
    certificate = _certified(folder)
    if certificate is None:
        raise UserError(f"{folder} holds no backup", remedy="name the folder that `platformops backup` wrote")
    _check_empty(store_path)
    kept = folder / str(certificate["store"])
    with named(f"backup {folder}", "reading the store"):
        if sha256_of(kept) != certificate["store_sha256"]:
            raise PlatformError(f"{kept} is not what its certificate says", remedy="restore from an earlier backup")
    with named(f"home {home.root}", "making the folder"):
        store_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _progress("restore") as tell:
        found = copy_artifacts(folder / ARTIFACTS, artifacts, tell)
    _check_all(certificate, found, folder)
    copied = copy_store(kept, store_path)
    with named(f"home {home.root}", "forgetting the store that was there before"):
        Witness(store_path).path.unlink(missing_ok=True)
    told: JsonObject = {**certificate, "entries": copied.entries, "artifacts_new": found.copied}
    return Done({**told, "damaged": list(found.damaged)}, found.damaged, is_restored=True)


def said(done: Done, folder: Path) -> str:
    told = done.document
    what = f"{told['entries']} records and {told['artifacts_new']} artifacts"
    if done.is_restored:
        return f"Restored {what} from {folder}."
    more = f", {told['artifacts']} in all" if told["artifacts"] != told["artifacts_new"] else ""
    return f"Copied and checked {what}{more}: {folder}"


def _local(home: Home) -> tuple[Path, Path]:
    """Files of the store and the artifacts. Raises UserError where a server keeps them."""
    if not home.store_url.startswith(LOCAL_STORE):
        said = "this store is on a database server, which has backups of its own"
        raise UserError(said, remedy="pg_dump, or what its host offers")
    scheme, separator, rest = home.artifacts_url.partition("://")
    if separator and scheme != "file":
        said = f"these artifacts are in {scheme}://, which keeps copies of its own"
        raise UserError(said, remedy="turn on versions of that bucket")
    return Path(home.store_url.removeprefix(LOCAL_STORE)), Path(rest if separator else home.artifacts_url)


def _check_empty(store_path: Path) -> None:
    """What SQLite left beside a store that is gone would be taken for a part of the one that comes back."""
    for name in BESIDE_STORE:
        path = store_path.with_name(store_path.name + name)
        if os.path.lexists(path):
            remedy = "platformops down, move it away, or set PLATFORMOPS_HOME to a new folder"
            raise UserError(f"{path} exists: nothing is overwritten", remedy=remedy)


def _check_all(certificate: JsonObject, found: ArtifactsCopy, folder: Path) -> None:
    there = found.copied + found.there + len(found.damaged)
    if there < int(str(certificate["artifacts"])):
        raise PlatformError(
            f"{folder / ARTIFACTS} holds {there} of the {certificate['artifacts']} artifacts of its certificate",
            remedy="restore from an earlier backup",
        )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Of all backups into the folder, which is made, only this one. Raises UserError while another runs."""
    with named(f"backup {folder}", "making the folder"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another backup into {folder} is under way", remedy="wait for it") from None
        yield
    finally:
        os.close(lock)


@contextmanager
def _progress(stage: str) -> Iterator[Told]:
    from platformops.cli.output import progress_shown
    from platformops.clock import SystemClock
    from platformops.pipeline.records import Progress

    clock = SystemClock()
    began_s = clock.monotonic()
    with progress_shown() as show:

        def tell(done: int, total: int) -> None:
            elapsed_s = clock.monotonic() - began_s
            show(Progress(stage, "running", done / total, f"artifact {done + 1} of {total}", elapsed_s))

        yield tell


def _write(folder: Path, certificate: JsonObject) -> None:
    """The certificate takes the place of the one before at once."""
    aside = folder / f".{CERTIFICATE}"
    with aside.open("w", encoding="utf-8") as file:
        file.write(json.dumps(certificate, indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())
    aside.replace(folder / CERTIFICATE)
    sync_folder(folder)


def _certified(folder: Path) -> JsonObject | None:
    """The certificate; None where there is none that could be followed."""
    value = None
    with suppress(OSError, ValueError):
        value = json.loads((folder / CERTIFICATE).read_text(encoding="utf-8"))
    if not isinstance(value, dict) or not STORE.fullmatch(str(value.get("store"))):
        return None
    kinds = {"store_sha256": str, "artifacts": int, "entries": int}
    return value if all(type(value.get(name)) is kind for name, kind in kinds.items()) else None
