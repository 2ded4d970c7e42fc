"""Digests local files and folders, reporting each file that cannot be read instead of stopping at the first."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from platformops.errors import DataRefused
from platformops.pipeline.memory import DigestMemory, Stamp, stamp_of
from platformops.store.records import JsonObject

READERS = 4
"""Hashing releases the interpreter's lock; more readers than this only add seeks."""
SHOWN = 10


@dataclass(frozen=True, slots=True)
class Found:
    name: str
    """Relative to the source, with `/`, or the file's own name for a source of one file."""
    path: Path
    stamp: Stamp


@dataclass(frozen=True, slots=True)
class Problem:
    name: str
    reason: str


def digest_tree(place: Path, *, written: str, memory: DigestMemory) -> str:
    """Digest of a file, or of the sorted relative names and bytes of a folder. Raises DataRefused, file by file."""
    found: list[Found] = []
    problems: list[Problem] = []
    for entry in walk(place):
        found.append(entry) if isinstance(entry, Found) else problems.append(entry)
    refuse(written, problems)
    return digest_files(sorted(found, key=lambda f: f.name), place=place, written=written, memory=memory)


def digest_files(found: list[Found], *, place: Path, written: str, memory: DigestMemory) -> str:
    """Digest of names and bytes of `found`; only what changed since it was last remembered is read."""
    if not found:
        raise DataRefused(f"{written}: holds no file", remedy="check the path")
    stamps = _digest_of(f"{f.name}\0{f.stamp.text()}" for f in found)
    kept = memory.recall("tree", place)
    if kept and kept["stamps"] == stamps:
        return str(kept["digest"])
    digests = _read_changed(found, _remembered(memory, place), written)
    digest = _digest_of(f"{f.name}\0{f.stamp.size_bytes}\0{digests[f.name]}" for f in found)
    settled = {f.name: [f.stamp.text(), digests[f.name]] for f in found if memory.is_settled(f.stamp)}
    news: dict[tuple[str, Path], JsonObject] = {("files", place): settled}
    if len(settled) == len(found):
        news["tree", place] = {"stamps": stamps, "digest": digest}
    if settled:
        memory.remember(news)
    return digest


def _remembered(memory: DigestMemory, place: Path) -> Mapping[str, tuple[str, str]]:
    kept = memory.recall("files", place) or {}
    pairs = {name: value for name, value in kept.items() if isinstance(value, list)}
    return {name: (str(value[0]), str(value[1])) for name, value in pairs.items()}


def _read_changed(found: list[Found], kept: Mapping[str, tuple[str, str]], written: str) -> dict[str, str]:
    digests = {f.name: kept[f.name][1] for f in found if kept.get(f.name, ("", ""))[0] == f.stamp.text()}
    changed = [f for f in found if f.name not in digests]
    if len(changed) < READERS:
        answers = [read_digest(f) for f in changed]
    else:
        from concurrent.futures import ThreadPoolExecutor  # brings in logging: a cached run does without

        with ThreadPoolExecutor(READERS) as pool:
            answers = list(pool.map(read_digest, changed, chunksize=1))
    refuse(written, [a for a in answers if isinstance(a, Problem)])
    return digests | {f.name: a for f, a in zip(changed, answers, strict=True) if isinstance(a, str)}


def read_digest(found: Found) -> str | Problem:
    """SHA-256 of the bytes, or why they could not be read as the file that was found."""
    try:
        # O_NONBLOCK: a file that became a pipe since it was found must not hang the plan.
        with open(os.open(found.path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            if stamp_of(os.fstat(file.fileno())) != found.stamp:
                return Problem(found.name, "changed while the source was read")
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            if stamp_of(os.fstat(file.fileno())) != found.stamp:
                return Problem(found.name, "changed while it was read")
            return digest
    except OSError as error:
        return Problem(found.name, _os_reason(error))


def walk(place: Path) -> Iterator[Found | Problem]:
    """Every regular file at or below `place`, through links; loops, special files and odd names are problems."""
    try:
        status = place.stat()
    except OSError as error:
        yield Problem(place.name, _os_reason(error))
        return
    if stat.S_ISDIR(status.st_mode):
        yield from _walk_folder(place, "", ((status.st_dev, status.st_ino),))
    else:
        yield _entry(place, place.name, status)


def _walk_folder(folder: Path, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[Found | Problem]:
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries)
    except OSError as error:
        yield Problem(prefix or folder.name, _os_reason(error))
        return
    for name in names:
        path, shown = folder / name, f"{prefix}{name}"
        try:
            status = path.stat()
        except OSError as error:
            yield Problem(shown, _os_reason(error))
            continue
        if not stat.S_ISDIR(status.st_mode):
            yield _entry(path, shown, status)
        elif (status.st_dev, status.st_ino) in above:
            yield Problem(shown, "is a link to a folder above it, a loop")
        else:
            yield from _walk_folder(path, f"{shown}/", (*above, (status.st_dev, status.st_ino)))


def _entry(path: Path, shown: str, status: os.stat_result) -> Found | Problem:
    if not stat.S_ISREG(status.st_mode):
        return Problem(shown, "is a pipe, socket or device, not a file")
    try:
        shown.encode("utf-8")
    except UnicodeEncodeError:
        return Problem(shown, "has a name that is not UTF-8")
    return Found(shown, path, stamp_of(status))


def _os_reason(error: OSError) -> str:
    known: dict[type[OSError], str] = {
        FileNotFoundError: "is not there (a broken link, or it has just vanished)",
        PermissionError: "may not be read by this user",
    }
    return known.get(type(error)) or f"cannot be read: {error.strerror}"


def refuse(written: str, problems: list[Problem]) -> None:
    """Raises DataRefused that lists the first problems and counts the rest; nothing when there are none."""
    if not problems:
        return
    lines = [f"{written}: {_printable(p.name)}: {p.reason}" for p in problems[:SHOWN]]
    if len(problems) > SHOWN:
        lines.append(f"{written}: and {len(problems) - SHOWN} more files")
    raise DataRefused("\n".join(lines), remedy="correct or remove these files, or name a source without them")


def _printable(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode("utf-8").encode("unicode_escape").decode("ascii")


def _digest_of(lines: Iterator[str]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode("utf-8") + b"\0\n")
    return digest.hexdigest()
