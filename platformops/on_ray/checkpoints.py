"""Training checkpoints that are never half there: written aside, digested, synced, renamed, and verified on reading."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

MARKER = "checkpoint.json"
KEEP = 2
"""The newest may be damaged by a dying disk; the one before it then costs an epoch instead of the training."""


def write_checkpoint(folder: Path, epoch: int, write: Callable[[Path], None], *, step: int = 0) -> Path:
    """The directory of the checkpoint after `epoch` epochs and `step` steps, complete and durable on return.

    The KEEP newest stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = f"epoch-{epoch:06d}" + (f".{step:06d}" if step else "")  # sorts by how far training is
    final, aside = folder / name, folder / f".writing-{name}-{os.getpid()}"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    write(aside)
    digests = {path.name: _digest(path) for path in sorted(aside.iterdir())}
    (aside / MARKER).write_text(json.dumps({"epoch": epoch, "files": digests}), encoding="utf-8")
    for path in (*aside.iterdir(), aside):
        _sync(path)
    if final.exists():
        shutil.rmtree(final)
    aside.rename(final)
    _sync(folder)
    for old in _newest_first(folder)[KEEP:]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def newest_verified(folder: Path) -> tuple[Path | None, tuple[str, ...]]:
    """The newest checkpoint whose every byte is as written, and the names of newer ones that were not (moved aside)."""
    damaged: list[str] = []
    for candidate in _newest_first(folder):
        if problem := _problem(candidate):
            damaged.append(f"{candidate.name}: {problem}")
            candidate.rename(folder / f"damaged-{candidate.name}")
        else:
            return candidate, tuple(damaged)
    return None, tuple(damaged)


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("epoch-*"), reverse=True) if folder.is_dir() else []


def _problem(checkpoint: Path) -> str:
    try:
        files = json.loads((checkpoint / MARKER).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{MARKER}: {type(error).__name__}"
    for name, digest in files.items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if _digest(path) != digest:
            return f"{name} is not as it was written"
    return ""


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
