"""Artifacts in a bucket: data objects under their digests first, the manifest last; used as verified local copies."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from platformops.errors import ArtifactCorrupt, PlatformError
from platformops.store.directory import DirectoryArtifacts
from platformops.store.manifest import LARGEST_BYTES, SHA256, Manifest, digest_of, parsed, publishable, verify
from platformops.store.staging import Staging
from platformops.store.trouble import named

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

MANIFEST_END = ".manifest.json"
_EXTRAS = {"s3": "platformops[s3]", "gs": "gcsfs"}


class BucketArtifacts:
    """`<url>/<fingerprint>/<sha256 of a file>` and `<url>/<fingerprint>/<sha256 of the manifest>.manifest.json`.

    Every object is named by its content, so publishers who race never write different bytes under one name (not every
    bucket offers a conditional write), and no file name becomes part of a key.
    """

    def __init__(self, url: str, *, cache: Path) -> None:
        self._scheme, _, prefix = url.partition("://")
        self._prefix = prefix.rstrip("/")
        self._place = f"artifacts in {url}"
        self._cache, self._staging = cache.absolute(), Staging(cache.absolute() / ".staging")
        self._connection: tuple[int, AbstractFileSystem] | None = None

    def exists(self, fingerprint: str) -> bool:
        with self._naming(f"looking for {fingerprint}"):
            return bool(self._manifests(fingerprint))

    def staging(self, fingerprint: str) -> Path:
        with named(f"the cache {self._cache}", f"making room for {fingerprint}", at=self._cache):
            return self._staging.make(fingerprint)

    def discard(self, staging: Path) -> None:
        self._staging.discard(self._staging.container_of(staging))

    def publish(self, fingerprint: str, staging: Path) -> str:
        self._staging.container_of(staging)
        with self._naming(f"publishing {fingerprint}"):
            if (there := self._sound(fingerprint)) is not None:
                self.discard(staging)
                return there
            digest = self._upload(fingerprint, publishable(staging, fingerprint), staging)
        self._copy(digest).publish(fingerprint, staging)
        return digest

    def open(self, fingerprint: str, manifest_digest: str) -> Path:
        copy = self._copy(manifest_digest)
        try:
            return copy.open(fingerprint, manifest_digest)
        except ArtifactCorrupt as exc:
            if copy.exists(fingerprint):
                copy.quarantine(fingerprint, exc.message)
        with self._naming(f"opening {fingerprint}"):
            self._download(fingerprint, manifest_digest)
        return copy.files(fingerprint)

    def quarantine(self, fingerprint: str, reason: str) -> None:
        with self._naming(f"moving {fingerprint} aside"):
            keys = list(self._objects(fingerprint))
            if not keys:
                return
            kept = f"{self._prefix}/.quarantine/{fingerprint}-{secrets.token_hex(8)}"
            said = json.dumps({"fingerprint": fingerprint, "reason": reason})
            self._bucket.pipe_file(f"{kept}/reason.json", said.encode())
            self._bucket.copy(keys, [f"{kept}/artifact/{key.rpartition('/')[2]}" for key in keys])
            manifests = [key for key in keys if key.endswith(MANIFEST_END)]
            for group in (manifests, sorted(set(keys) - set(manifests))):  # never a manifest without its data
                if group:
                    self._bucket.rm(group)

    @property
    def _bucket(self) -> AbstractFileSystem:
        """Connected on first use, and again in a forked child: the connection's thread stays with the parent."""
        if self._connection is None or self._connection[0] != os.getpid():
            import fsspec

            try:
                found = fsspec.filesystem(self._scheme, skip_instance_cache=True, use_listings_cache=False)
            except ImportError as exc:
                remedy = f"pip install '{_EXTRAS[self._scheme]}'"
                raise PlatformError(
                    f"{self._place}: a package for {self._scheme}:// is missing", remedy=remedy
                ) from exc
            self._connection = (os.getpid(), found)
        return self._connection[1]

    def _objects(self, fingerprint: str) -> dict[str, int]:
        """Key -> size of what is there."""
        found = self._bucket.find(f"{self._prefix}/{fingerprint}", detail=True)
        return {str(key): int(about["size"]) for key, about in found.items()}

    def _manifests(self, fingerprint: str) -> list[str]:
        """Digests of the published manifests: one, unless two publishers raced."""
        names = (key.rpartition("/")[2] for key in self._objects(fingerprint) if key.endswith(MANIFEST_END))
        digests = (name.removesuffix(MANIFEST_END) for name in names)
        return sorted(digest for digest in digests if SHA256.fullmatch(digest))

    def _copy(self, manifest_digest: str) -> DirectoryArtifacts:
        """Local copies lie under the digest: those of publishers who raced are never taken for each other."""
        if not SHA256.fullmatch(manifest_digest):
            raise PlatformError(f"{manifest_digest[:80]!r} is no manifest digest")
        return DirectoryArtifacts(self._cache / manifest_digest, staging=self._staging)

    def _sound(self, fingerprint: str) -> str | None:
        """The digest of a published artifact that verifies; when there are only others, they are moved aside."""
        reasons = []
        for digest in self._manifests(fingerprint):
            try:
                self._download(fingerprint, digest)
                return digest
            except ArtifactCorrupt as exc:
                reasons.append(exc.message)
        if reasons:
            self.quarantine(fingerprint, "; ".join(reasons))
        return None

    def _upload(self, fingerprint: str, manifest: Manifest, files: Path) -> str:
        content = manifest.encoded()
        folder = f"{self._prefix}/{fingerprint}"
        by_digest = {entry.sha256: files / entry.path for entry in manifest.files}
        if by_digest:
            self._bucket.put([str(path) for path in by_digest.values()], [f"{folder}/{name}" for name in by_digest])
        self._bucket.pipe_file(f"{folder}/{digest_of(content)}{MANIFEST_END}", content)
        return digest_of(content)

    def _download(self, fingerprint: str, manifest_digest: str) -> None:
        """Puts a verified copy into the cache; raises ArtifactCorrupt naming the first file that is not as listed."""
        manifest = self._fetched_manifest(fingerprint, manifest_digest)
        self._compare_sizes(fingerprint, manifest)
        staging = self.staging(fingerprint)
        try:
            self._fetch(fingerprint, manifest, staging)
            verify(staging, manifest)
            self._copy(manifest_digest).publish(fingerprint, staging)
        except ArtifactCorrupt as exc:
            raise self._corrupt(fingerprint, exc.message) from exc
        finally:
            if staging.exists():
                self.discard(staging)

    def _fetched_manifest(self, fingerprint: str, manifest_digest: str) -> Manifest:
        key = f"{self._prefix}/{fingerprint}/{manifest_digest}{MANIFEST_END}"
        try:
            if self._bucket.size(key) > LARGEST_BYTES:
                raise self._corrupt(fingerprint, "manifest.json is larger than a manifest can be")
            content = self._bucket.cat_file(key)
        except FileNotFoundError as exc:
            raise self._corrupt(fingerprint, "manifest.json is missing") from exc
        if digest_of(content) != manifest_digest:
            raise self._corrupt(fingerprint, "manifest.json is not the one that was recorded (sha256 differs)")
        return parsed(content, fingerprint=fingerprint)

    def _compare_sizes(self, fingerprint: str, manifest: Manifest) -> None:
        """Before anything is fetched: a wrong size needs no download, and must not fill the disk."""
        there = self._objects(fingerprint)
        for entry in manifest.files:
            size = there.get(f"{self._prefix}/{fingerprint}/{entry.sha256}")
            if size is None:
                raise self._corrupt(fingerprint, f"{entry.path} is missing")
            if size != entry.size:
                raise self._corrupt(fingerprint, f"{entry.path} has {size} bytes, not {entry.size}")

    def _fetch(self, fingerprint: str, manifest: Manifest, staging: Path) -> None:
        targets = {staging / entry.path: entry.sha256 for entry in manifest.files}
        for folder in {path.parent for path in targets}:
            folder.mkdir(parents=True, exist_ok=True)
        if targets:
            keys = [f"{self._prefix}/{fingerprint}/{name}" for name in targets.values()]
            self._bucket.get(keys, [str(path) for path in targets])

    def _corrupt(self, fingerprint: str, what: str) -> ArtifactCorrupt:
        remedy = "run again: the step that made it is done anew, and the bad copy is kept aside"
        return ArtifactCorrupt(f"artifact {self._scheme}://{self._prefix}/{fingerprint}: {what}", remedy=remedy)

    @contextmanager
    def _naming(self, doing: str) -> Iterator[None]:
        try:
            yield
        except PlatformError:
            raise
        except Exception as exc:  # each backend has errors of its own; all of them mean that the place failed
            said = str(exc) or type(exc).__name__
            remedy = "check the address, the credentials and that the bucket exists"
            raise PlatformError(f"{self._place}: {doing} failed: {said}", remedy=remedy) from exc
