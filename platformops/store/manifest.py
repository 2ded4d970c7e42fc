"""The list of an artifact's files with size and digest: made when it is published, held against it at each opening."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
import unicodedata
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from platformops.errors import ArtifactCorrupt, PlatformError

FORMAT = 1
LONGEST_PATH_BYTES = 1024
LONGEST_PART_BYTES = 255
CHUNK_BYTES = 1 << 20
LARGEST_BYTES = 64 << 20
"""Of a manifest: about 400,000 files. What claims to be a larger one is not read into memory."""

_PUNCTUATION = frozenset(" !#$&'()+,-.=@[]^_{}~")
_FINGERPRINT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
SHA256 = re.compile(r"[0-9a-f]{64}")
"""How a digest is written."""


@dataclass(frozen=True, slots=True, order=True)
class FileEntry:
    path: str
    """Relative, parts joined by `/`."""
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    fingerprint: str
    files: tuple[FileEntry, ...]
    """Sorted by path."""
    format: int = FORMAT

    def encoded(self) -> bytes:
        """The one spelling of this manifest; its sha256 stands for every byte of the artifact."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode()


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def manifest_of(directory: Path, fingerprint: str, *, sync: bool = False) -> Manifest:
    """Reads every file below `directory`; with `sync` each is on the disk when this returns.

    Raises ArtifactCorrupt for what an artifact may not hold: links, devices, names that could be read as another path.
    """
    found = sorted(_entry(path, fd, sync=sync) for path, fd in _files(directory))
    return Manifest(fingerprint, tuple(found))


def publishable(directory: Path, fingerprint: str, *, sync: bool = False) -> Manifest:
    """As `manifest_of`, where what is wrong is the fault of the stage that wrote there: raises PlatformError."""
    try:
        manifest = manifest_of(directory, fingerprint, sync=sync)
    except ArtifactCorrupt as exc:
        remedy = "let the stage write plain files with plain names"
        raise PlatformError(f"the output for {fingerprint} cannot be kept: {exc.message}", remedy=remedy) from exc
    if len(manifest.encoded()) > LARGEST_BYTES:
        remedy = "let the stage write fewer, larger files"
        raise PlatformError(f"the output for {fingerprint} cannot be kept: too many files", remedy=remedy)
    return manifest


def verify(directory: Path, manifest: Manifest) -> None:
    """Raises ArtifactCorrupt, naming the file, unless `directory` holds exactly what the manifest lists."""
    listed = {entry.path: entry for entry in manifest.files}
    for path, fd in _files(directory):
        entry = listed.pop(path, None)
        if entry is None:
            raise _corrupt(path, "is not in the manifest")
        size = os.fstat(fd).st_size
        if size != entry.size:
            raise _corrupt(path, f"has {size} bytes, not {entry.size}")
        if _sha256(path, fd) != entry.sha256:
            raise _corrupt(path, "has other content than was published (sha256 differs)")
    if listed:
        raise _corrupt(min(listed), "is missing")


def parsed(content: bytes, *, fingerprint: str) -> Manifest:
    """The manifest that `content` spells; raises ArtifactCorrupt unless it is the one spelling of a sound one.

    A newer format is a PlatformError: what this program does not understand it must not call corrupt.
    """
    try:
        raw = json.loads(content)
        form = raw["format"]
        if type(form) is int and form > FORMAT:
            raise _newer(fingerprint, form)
        files = tuple(FileEntry(**file) for file in raw["files"])
        manifest = Manifest(raw["fingerprint"], files, form)
        is_sound = manifest.encoded() == content and all(_is_sound(entry) for entry in files)
        paths = [entry.path for entry in files]
        is_sound = is_sound and paths == sorted(set(paths)) and type(form) is int and form == FORMAT
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as exc:
        raise _corrupt("manifest.json", "is no manifest") from exc
    if not is_sound:
        raise _corrupt("manifest.json", "is not in its one spelling")
    if manifest.fingerprint != fingerprint:
        raise _corrupt("manifest.json", f"belongs to {manifest.fingerprint[:80]!a}, not to {fingerprint}")
    return manifest


def _newer(fingerprint: str, found: int) -> PlatformError:
    return PlatformError(
        f"artifact {fingerprint} was written by a newer PlatformOps (format {found}, this one knows {FORMAT})",
        remedy="upgrade this PlatformOps",
    )


def checked_fingerprint(fingerprint: str) -> str:
    """The fingerprint itself, safe as a file name; raises PlatformError otherwise."""
    if not _FINGERPRINT.fullmatch(fingerprint):
        raise PlatformError(f"{fingerprint[:80]!r} is no fingerprint: letters, digits, `.`, `_` and `-` only")
    return fingerprint


def checked_path(path: str) -> str:
    """The path itself; raises ArtifactCorrupt for one that may not be read the same way everywhere.

    An allow-list, since the ways to write `../` differently (`%2e`, a backslash, a one-dot leader) never end.
    """
    if unicodedata.normalize("NFKC", path) != path or not all(_is_plain(char) for char in path.replace("/", "")):
        raise _corrupt(path, "has a character in its name that artifacts do not take")
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise _corrupt(path, "is not a plain relative path")
    if len(path.encode()) > LONGEST_PATH_BYTES or any(len(part.encode()) > LONGEST_PART_BYTES for part in parts):
        raise _corrupt(path, "has too long a name")
    return path


def _is_plain(char: str) -> bool:
    if char.isascii():
        return char.isalnum() or char in _PUNCTUATION
    return unicodedata.category(char)[0] in "LMN"  # letters, marks and digits of any script


def _is_sound(entry: FileEntry) -> bool:
    checked_path(entry.path)
    return type(entry.size) is int and entry.size >= 0 and SHA256.fullmatch(entry.sha256) is not None


def _files(directory: Path) -> Iterator[tuple[str, int]]:
    """Path and open descriptor of each file; never follows a link, never leaves the directory."""
    for folder, _, names, folder_fd in _walk(directory):
        for name in names:
            path = name if folder == "." else f"{folder.removeprefix('./')}/{name}"
            fd = _opened(checked_path(path), name, folder_fd)
            try:
                yield path, fd
            finally:
                os.close(fd)


def _walk(directory: Path) -> Iterator[tuple[str, list[str], list[str], int]]:
    def fail(exc: OSError) -> None:
        raise exc

    root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        for folder, folders, names, folder_fd in os.fwalk(".", dir_fd=root, onerror=fail):
            links = [name for name in folders if stat.S_ISLNK(os.lstat(name, dir_fd=folder_fd).st_mode)]
            yield folder, folders, sorted(names + links), folder_fd
    finally:
        os.close(root)


def _opened(path: str, name: str, folder_fd: int) -> int:
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder_fd)
    except OSError as exc:
        if exc.errno in (errno.ELOOP, errno.ENXIO):
            raise _corrupt(path, "is a link, a pipe or a device, not a file") from exc
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise _corrupt(path, "is a link, a pipe or a device, not a file")
    return fd


def _entry(path: str, fd: int, *, sync: bool) -> FileEntry:
    if sync:
        os.fchmod(fd, 0o444)  # what is published never changes; a slip of a later stage is refused by the system
        os.fsync(fd)
    return FileEntry(path, os.fstat(fd).st_size, _sha256(path, fd))


def _sha256(path: str, fd: int) -> str:
    digest = hashlib.sha256()
    try:
        while chunk := os.read(fd, CHUNK_BYTES):
            digest.update(chunk)
    except OSError as exc:
        if exc.errno != errno.EIO:
            raise
        raise _corrupt(path, "cannot be read from the disk") from exc
    return digest.hexdigest()


def _corrupt(path: str, what: str) -> ArtifactCorrupt:
    shown = path if path.isprintable() and len(path) < 200 else ascii(path[:200])
    return ArtifactCorrupt(f"{shown} {what}")
