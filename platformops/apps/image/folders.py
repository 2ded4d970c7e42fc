"""Class folders: one folder a class with image files in it, on this machine or behind an fsspec URL."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import fsspec

from platformops.apps.contract import Part, Row
from platformops.errors import DataRefused

FILES_A_PART = 256
MAX_FILE_BYTES = 256 * 1024 * 1024
"""Of one image: above this it is no photograph, and it is not read."""


def folder_parts(source: str) -> Sequence[Part]:
    """Slices of a folder of class folders, files in name order; hidden files are left out."""
    files = _remote_files(source) if "://" in source else _local_files(Path(source))
    return [Part(source, files=tuple(files[at : at + FILES_A_PART])) for at in range(0, len(files), FILES_A_PART)]


def folder_rows(part: Part) -> Iterator[Row]:
    """One row a file; a file that cannot be read (loop, permission, vanished, no file at all) says so in `problem`."""
    remote = "://" in part.uri
    for path, label in part.files:
        try:
            content = _remote_content(path) if remote else _local_content(path)
        except (OSError, ValueError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
            yield Row(shown(path, part.uri), b"", shown(label), problem=f"cannot be read: {reason}")
        else:
            yield Row(shown(path, part.uri), content, shown(label))


def shown(path: str, root: str = "") -> str:
    """The name relative to its source, with bytes that are no UTF-8 written as escapes."""
    relative = path.removeprefix(root.rstrip("/")).lstrip("/") if root else path
    return relative.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _local_files(root: Path) -> list[tuple[str, str]]:
    try:
        classes = sorted(entry.name for entry in os.scandir(root) if not entry.name.startswith("."))
    except OSError as exc:
        raise DataRefused(f"{root}: cannot be read: {exc.strerror}", remedy="check the path in data.source") from exc
    folders = [name for name in classes if _is_folder(root / name)]
    if not folders:
        raise DataRefused(
            f"{root}: has no class folders", remedy="put the images of each class into a folder named after it"
        )
    return [(path, name) for name in folders for path in _files_below(root / name)]


def _files_below(folder: Path) -> list[str]:
    found, unreadable = [], []
    # Links to folders are not walked: they come out as files that cannot be read, which ends loops and reports them.
    for where, below, names in os.walk(folder, onerror=lambda exc: unreadable.append(str(exc.filename))):
        links = [name for name in below if os.path.islink(os.path.join(where, name))]
        found += [os.path.join(where, name) for name in [*names, *links] if not name.startswith(".")]
    return sorted([*found, *unreadable])


def _is_folder(path: Path) -> bool:
    """Also true of a link to a folder elsewhere, but not of one that leads back to the folder it is in."""
    try:
        return path.is_dir() and path.resolve() not in (path.parent.resolve(), *path.parent.resolve().parents)
    except (OSError, RuntimeError):
        return False


def _local_content(path: str) -> bytes:
    # Not blocking: opening a named pipe must not wait for a writer.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("not a regular file")
        if status.st_size > MAX_FILE_BYTES:
            raise ValueError(f"{status.st_size} bytes is more than an image has")
        return file.read()


def _remote_files(source: str) -> list[tuple[str, str]]:
    filesystem, root = fsspec.core.url_to_fs(source)
    files = []
    for path in sorted(filesystem.find(root)):
        pieces = path.removeprefix(root).strip("/").split("/")
        if len(pieces) > 1 and not pieces[-1].startswith("."):
            files.append((filesystem.unstrip_protocol(path), pieces[0]))
    return files


def _remote_content(url: str) -> bytes:
    filesystem, path = fsspec.core.url_to_fs(url)
    if filesystem.size(path) > MAX_FILE_BYTES:
        raise ValueError("more bytes than an image has")
    content: bytes = filesystem.cat_file(path)
    return content
