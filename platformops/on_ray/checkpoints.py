"""Training checkpoints that are never half there: written aside, digested, synced, renamed, and verified on reading."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from platformops.errors import ArtifactCorrupt, PlatformError
from platformops.store.directory import sync_folder
from platformops.store.manifest import FileEntry, digest_of, manifest_of, parsed, publishable
from platformops.store.room import bytes_below, disk_of
from platformops.store.trouble import named, require_room

MARKER = "checkpoint.json"
KEEP = 2
"""The newest may be damaged by a dying disk; the one before it then costs an epoch instead of the training."""
WRITING, DAMAGED = ".writing-", "damaged-"


def write_checkpoint(folder: Path, epoch: int, write: Callable[[Path], None], *, step: int = 0) -> Path:
    """The directory of the checkpoint after `epoch` epochs and `step` steps, complete and durable on return.

    The KEEP newest stay. Raises DiskFull, before anything is written, when another checkpoint like the last one does
    not fit, and PlatformError when the disk fails; what was there before stays, and nothing half written does.
    """
    with named(f"checkpoints in {folder}", f"writing that of epoch {epoch}", at=folder):
        folder.mkdir(parents=True, exist_ok=True)
        make_room(folder)
        aside = folder / f"{WRITING}{epoch:06d}-{os.getpid()}"
        aside.mkdir()
        try:
            write(aside)
            _seal(aside, epoch)
            final = aside.rename(_free_name(folder, _name(epoch, step)))
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        sync_folder(folder)
        for old in _newest_first(folder)[KEEP:]:
            shutil.rmtree(old, ignore_errors=True)
    return final


def make_room(folder: Path) -> None:
    """Removes what killed writers left; for the next one, when it would not fit, all but the newest good one.

    Raises DiskFull when another checkpoint like the last one still does not fit: known before training starts, it
    costs no training.
    """
    for left in folder.glob(f"{WRITING}*"):
        shutil.rmtree(left, ignore_errors=True)
    newest = _newest_first(folder)[:1]
    needed_bytes = sum(map(bytes_below, newest))
    if newest and disk_of(folder).free_bytes < needed_bytes:
        for path in [*folder.glob(f"{DAMAGED}*"), *_newest_first(folder)[1:]]:
            shutil.rmtree(path, ignore_errors=True)
        require_room(f"checkpoints in {folder}", needed_bytes, at=folder)


def newest_verified(folder: Path) -> tuple[Path | None, tuple[str, ...]]:
    """The newest checkpoint whose every byte is as written, and the names of newer ones that were not (moved aside).

    Raises PlatformError when one was written by a newer program, which must not be called damaged.
    """
    damaged: list[str] = []
    with named(f"checkpoints in {folder}", "reading"):
        for candidate in _newest_first(folder):
            problem = _problem(candidate)
            if not problem:
                return candidate, tuple(damaged)
            damaged.append(f"{candidate.name}: {problem}")
            with suppress(OSError):  # on a disk that cannot be written the next look finds it again
                candidate.rename(_free_name(folder, f"{DAMAGED}{candidate.name}"))
    return None, tuple(damaged)


def _seal(aside: Path, epoch: int) -> None:
    """On return every file is on the disk, listed with its digest in the marker, which carries a digest of its own."""
    content = publishable(aside, _name(epoch), sync=True).encoded()
    with (aside / MARKER).open("wb") as file:
        file.write(b"%s\n%s\n" % (content, digest_of(content).encode()))
        file.flush()
        os.fsync(file.fileno())
    for where, _, _ in os.walk(aside, topdown=False):
        sync_folder(Path(where))


def _name(epoch: int, step: int = 0) -> str:
    """Sorts by how far training is."""
    return f"epoch-{epoch:06d}" + (f".{step:06d}" if step else "")


def _free_name(folder: Path, name: str) -> Path:
    """`name`, or `name-001`... while there is one: what is there is not touched before its successor stands."""
    taken = folder / name
    numbers: Iterator[int] = iter(range(1, 1000))
    while os.path.lexists(taken):
        taken = folder / f"{name}-{next(numbers):03d}"
    return taken


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("epoch-*"), reverse=True) if folder.is_dir() else []


def _problem(checkpoint: Path) -> str:
    try:
        content, digest, end = (checkpoint / MARKER).read_bytes().split(b"\n")
        if digest_of(content).encode() != digest or end:
            return f"{MARKER} is not as it was written"
        listed = parsed(content, fingerprint=checkpoint.name[: len(_name(0))])
        found = {entry for entry in manifest_of(checkpoint, listed.fingerprint).files if entry.path != MARKER}
    except (FileNotFoundError, NotADirectoryError, ValueError, ArtifactCorrupt) as error:
        return error.message if isinstance(error, PlatformError) else f"{MARKER}: {type(error).__name__}"
    return _difference({entry.path: entry for entry in listed.files}, {entry.path: entry for entry in found})


def _difference(listed: dict[str, FileEntry], found: dict[str, FileEntry]) -> str:
    if missing := sorted(listed.keys() - found.keys()):
        return f"{missing[0]} is missing"
    if extra := sorted(found.keys() - listed.keys()):
        return f"{extra[0]} is not in {MARKER}"
    changed = sorted(path for path, entry in listed.items() if found[path] != entry)
    return f"{changed[0]} is not as it was written" if changed else ""
