"""Damages files as a dying disk or a careless hand does: one bit, a cut, a loss, something added."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def flip(path: Path, at: int) -> None:
    """Changes one bit of the byte at `at`; a negative one counts from the end."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    _replace(path, bytes(content))


def truncate(path: Path, length: int) -> None:
    _replace(path, path.read_bytes()[:length])


def lengthen(path: Path, more: bytes = b"\0") -> None:
    _replace(path, path.read_bytes() + more)


def delete(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def add(folder: Path, name: str = "extra.bin") -> None:
    (folder / name).write_bytes(b"not asked for")


def files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def kinds(path: Path, *, every: int = 4096) -> Iterator[tuple[str, Callable[[], None]]]:
    """Every damage of one file, each with its name: flips at both ends and at each `every`-th byte, cuts, its loss."""
    size = path.stat().st_size
    for at in sorted({*range(0, size, every), size - 1} - {-1}):
        yield f"byte {at} flipped", lambda at=at: flip(path, at)  # type: ignore[misc]
    for length in sorted({0, size // 2, size - 1} - {-1, size}):
        yield f"cut to {length} bytes", lambda length=length: truncate(path, length)  # type: ignore[misc]
    yield "one byte more", lambda: lengthen(path)
    yield "deleted", lambda: delete(path)
    yield "another file beside it", lambda: add(path.parent)


@contextmanager
def undone(folder: Path, aside: Path) -> Iterator[None]:
    """Puts `folder` back to what it was, from a copy at `aside`."""
    shutil.copytree(folder, aside, symlinks=True)
    try:
        yield
    finally:
        shutil.rmtree(folder)
        aside.rename(folder)


def _replace(path: Path, content: bytes) -> None:
    """In place, whatever its mode: a disk asks nobody."""
    mode = path.stat().st_mode
    path.chmod(0o600)
    path.write_bytes(content)
    path.chmod(mode)
