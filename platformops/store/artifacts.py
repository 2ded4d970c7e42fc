"""Immutable directories under their fingerprint, in a local folder or a bucket, verified whenever they are opened."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from platformops.errors import UserError
from platformops.store.directory import DirectoryArtifacts
from platformops.store.manifest import checked_fingerprint

_BUCKETS = ("s3", "gs")


class Place(Protocol):
    def exists(self, fingerprint: str) -> bool: ...

    def staging(self, fingerprint: str) -> Path: ...

    def discard(self, staging: Path) -> None: ...

    def publish(self, fingerprint: str, staging: Path) -> str: ...

    def open(self, fingerprint: str, manifest_digest: str) -> Path: ...

    def quarantine(self, fingerprint: str, reason: str) -> None: ...


class Artifacts:
    """The artifacts at `url`: a path, `file://`, `s3://` or `gs://`; `cache` keeps local copies of remote ones.

    Every method raises PlatformError, naming the place, when the disk or the bucket fails.
    """

    def __init__(self, url: str, *, cache: Path) -> None:
        self._place = _place_at(url, cache)

    def exists(self, fingerprint: str) -> bool:
        """True once a whole artifact was published; nothing is verified."""
        return self._place.exists(checked_fingerprint(fingerprint))

    def staging(self, fingerprint: str) -> Path:
        """A fresh empty local directory to write in; what a killed writer of the same fingerprint left is removed."""
        return self._place.staging(checked_fingerprint(fingerprint))

    def discard(self, staging: Path) -> None:
        """Removes a directory that `staging` gave and that is not to be published."""
        self._place.discard(staging)

    def publish(self, fingerprint: str, staging: Path) -> str:
        """The sha256 of the manifest, once every file is durable and the artifact is there as a whole.

        A sound artifact of the same fingerprint that is there already wins: its digest is returned and `staging` goes.
        A corrupt one is moved aside and replaced.
        """
        return self._place.publish(checked_fingerprint(fingerprint), staging)

    def open(self, fingerprint: str, manifest_digest: str) -> Path:
        """A local directory with exactly the files that were published, every byte of them verified; read only.

        Raises ArtifactCorrupt, naming the file, for anything changed, missing or added.
        """
        return self._place.open(checked_fingerprint(fingerprint), manifest_digest)

    def quarantine(self, fingerprint: str, reason: str) -> None:
        """Keeps the published copy aside with the reason, out of use; the caller holds the lease of its step."""
        self._place.quarantine(checked_fingerprint(fingerprint), reason)


def _place_at(url: str, cache: Path) -> Place:
    scheme, separator, rest = url.partition("://")
    if not separator:
        return DirectoryArtifacts(Path(url))
    if scheme == "file":
        return DirectoryArtifacts(Path(rest))
    if scheme in _BUCKETS:
        from platformops.store.bucket import BucketArtifacts  # fsspec and its backends are slow to import

        return BucketArtifacts(url, cache=cache)
    raise UserError(
        f"no artifacts are kept at {scheme!r} URLs",
        remedy="name a folder, or s3://bucket/prefix, or gs://bucket/prefix",
    )
