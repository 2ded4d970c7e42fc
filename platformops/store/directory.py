"""Artifacts in a local directory: written aside, made durable, and shown by one rename."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from platformops.errors import ArtifactCorrupt
from platformops.store.manifest import LARGEST_BYTES, Manifest, digest_of, parsed, publishable, verify
from platformops.store.staging import FILES, Staging
from platformops.store.trouble import named

MANIFEST = "manifest.json"
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR)
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)


class DirectoryArtifacts:
    """`<root>/<fingerprint>/manifest.json` and `.../files/...`; beside them `.staging` and `.quarantine`."""

    def __init__(self, root: Path, *, staging: Staging | None = None) -> None:
        self._root = root.absolute()
        self._staging = staging or Staging(self._root / ".staging")
        self._quarantine = self._root / ".quarantine"
        self._place = f"artifacts in {self._root}"

    def exists(self, fingerprint: str) -> bool:
        with named(self._place, f"looking for {fingerprint}"):
            return (self._root / fingerprint / MANIFEST).is_file()

    def staging(self, fingerprint: str) -> Path:
        with named(self._place, f"making room for {fingerprint}", at=self._root):
            return self._staging.make(fingerprint)

    def discard(self, staging: Path) -> None:
        self._staging.discard(self._staging.container_of(staging))

    def publish(self, fingerprint: str, staging: Path) -> str:
        container = self._staging.container_of(staging)
        with named(self._place, f"publishing {fingerprint}", at=self._root):
            digest = digest_of(self._sealed(fingerprint, container).encoded())
            while not self._shown(container, fingerprint):
                if (there := self.sound(fingerprint)) is not None:
                    self._staging.discard(container)
                    return there
            self._staging.release(container)
        return digest

    def open(self, fingerprint: str, manifest_digest: str) -> Path:
        with named(self._place, f"opening {fingerprint}"), _naming(self._root / fingerprint):
            content = self._manifest(fingerprint)
            if digest_of(content) != manifest_digest:
                raise ArtifactCorrupt(f"{MANIFEST} is not the one that was recorded (sha256 differs)")
            self._verify(fingerprint, content)
        return self.files(fingerprint)

    def quarantine(self, fingerprint: str, reason: str) -> None:
        with named(self._place, f"moving {fingerprint} aside", at=self._root), self._alone():
            self._move_aside(fingerprint, reason)

    def files(self, fingerprint: str) -> Path:
        """Where the files of a published artifact are, unverified."""
        return self._root / fingerprint / FILES

    def _sealed(self, fingerprint: str, container: Path) -> Manifest:
        """On return everything below `container` is on the disk, the manifest written last."""
        manifest = publishable(container / FILES, fingerprint, sync=True)
        (container / MANIFEST).unlink(missing_ok=True)  # of an earlier try that failed half way
        with (container / MANIFEST).open("wb") as file:
            file.write(manifest.encoded())
            file.flush()
            os.fsync(file.fileno())
        for folder, _, _ in os.walk(container, topdown=False):
            sync_folder(Path(folder))
        return manifest

    def _shown(self, container: Path, fingerprint: str) -> bool:
        """False when that fingerprint is published already: a directory that is not empty is never renamed over."""
        self._root.mkdir(parents=True, exist_ok=True)
        try:
            container.rename(self._root / fingerprint)
        except OSError as exc:
            if exc.errno in _TAKEN:
                return False
            raise
        sync_folder(self._root)
        sync_folder(self._root.parent)  # the root itself may be new
        return True

    def digest(self, fingerprint: str) -> str:
        """Of the manifest that is there, by which `open` verifies the rest. Raises ArtifactCorrupt."""
        with _naming(self._root / fingerprint):
            return digest_of(self._manifest(fingerprint))

    def sound(self, fingerprint: str) -> str | None:
        """The digest of what is published; None once it was found corrupt and moved aside."""
        with self._alone():
            try:
                content = self._manifest(fingerprint)
                self._verify(fingerprint, content)
            except ArtifactCorrupt as exc:
                self._move_aside(fingerprint, exc.message)
                return None
        sync_folder(self._root)  # its publisher may have died between the rename and this
        return digest_of(content)

    def _verify(self, fingerprint: str, content: bytes) -> None:
        manifest = parsed(content, fingerprint=fingerprint)
        extra = {path.name for path in (self._root / fingerprint).iterdir()} - {MANIFEST, FILES}
        if extra:
            raise ArtifactCorrupt(f"{min(extra)!a} is not in the manifest")
        try:
            verify(self.files(fingerprint), manifest)
        except OSError as exc:
            if exc.errno not in _GONE:
                raise
            raise ArtifactCorrupt(f"{FILES}/ is missing or no directory") from exc

    def _manifest(self, fingerprint: str) -> bytes:
        folder = self._root / fingerprint
        if folder.is_symlink():
            raise ArtifactCorrupt("is a link, not a directory")
        try:
            with os.fdopen(os.open(folder / MANIFEST, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
                content = file.read(LARGEST_BYTES + 1)
        except OSError as exc:
            if exc.errno not in _GONE:
                raise
            raise ArtifactCorrupt(f"{MANIFEST} is missing") from exc
        if len(content) > LARGEST_BYTES:
            raise ArtifactCorrupt(f"{MANIFEST} is larger than a manifest can be")
        return content

    def _move_aside(self, fingerprint: str, reason: str) -> None:
        if not os.path.lexists(self._root / fingerprint):
            return
        kept = Path(tempfile.mkdtemp(prefix=f"{fingerprint}-", dir=self._quarantine))
        (kept / "reason.json").write_text(json.dumps({"fingerprint": fingerprint, "reason": reason}), encoding="utf-8")
        (self._root / fingerprint).rename(kept / "artifact")
        sync_folder(kept)
        sync_folder(self._root)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time judges and moves what is published, so that none moves another's fresh copy."""
        self._quarantine.mkdir(parents=True, exist_ok=True)
        fd = os.open(self._quarantine, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except ArtifactCorrupt as exc:
        remedy = "run again: the step that made it is done anew, and the bad copy is kept aside"
        raise ArtifactCorrupt(f"artifact {path}: {exc.message}", remedy=remedy) from exc


def sync_folder(folder: Path) -> None:
    """On return the names in `folder` are on the disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
