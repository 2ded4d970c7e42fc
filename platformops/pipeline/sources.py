"""Finds what a data source is called by and digests it: files, data sets of libraries, objects of a bucket."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

from platformops.errors import DataRefused, UserError
from platformops.pipeline.files import Found, Problem, digest_files, digest_tree, refuse, walk
from platformops.pipeline.memory import DigestMemory

STAGE = "stage://"
"""`stage://NAME`: the artifact of a stage; its identity is that stage's fingerprint, not a digest of bytes."""
SKLEARN_FILES = {
    "digits": "digits.csv.gz",
    "iris": "iris.csv",
    "wine": "wine_data.csv",
    "breast_cancer": "breast_cancer.csv",
}
SCHEMES = ("sklearn", "torchvision", "s3", "gs", "data", "stage", "file")


def digest_source(uri: str, *, root: Path, data_root: Path | None, memory: DigestMemory) -> str:
    """64 hex digits for the bytes behind `uri`; relative paths start at `root`, `data://` at `data_root`.

    Raises UserError when the source cannot be understood or found, DataRefused (file by file) when it cannot be read.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return _digest_path(uri, root / uri, memory)
    digests: dict[str, Callable[[], str]] = {
        "sklearn": lambda: _digest_sklearn(uri, rest, memory),
        "torchvision": lambda: _digest_torchvision(uri, rest.partition("?")[0], data_root, memory),
        "s3": lambda: _digest_objects(uri),
        "gs": lambda: _digest_objects(uri),
        "data": lambda: _digest_path(uri, _below(data_root, rest, uri), memory),
        "file": lambda: _digest_path(uri, Path(rest), memory),
    }
    if scheme not in digests:
        near = difflib.get_close_matches(scheme, SCHEMES, n=1)
        raise UserError(
            f"{uri}: unknown kind of source {scheme!r}",
            remedy=f"did you mean {near[0]}://?" if near else f"use a path, or one of {', '.join(SCHEMES)}",
        )
    return digests[scheme]()


def located(uri: str, *, root: Path, data_root: Path | None) -> str:
    """The source as functions of an app take it: relative paths start at `root`, `data://` at `data_root`.

    Raises UserError for a `data://` whose folder is not known, or that leads out of it.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return str(root / uri)
    return str(_below(data_root, rest, uri)) if scheme == "data" else uri


def _below(data_root: Path | None, rest: str, uri: str) -> Path:
    if data_root is None:
        raise UserError(f"{uri}: the folder of data:// sources is not known", remedy="set PLATFORMOPS_DATA to it")
    if ".." in Path(rest).parts or Path(rest).is_absolute():
        raise UserError(f"{uri}: leads out of the data folder", remedy="name a path below it, without `..`")
    return data_root / rest


def _digest_path(uri: str, path: Path, memory: DigestMemory) -> str:
    if path.exists() or path.is_symlink():
        return digest_tree(path, written=uri, memory=memory)
    if not any(sign in path.name or sign in str(path.parent) for sign in "*?["):
        raise UserError(f"{uri}: there is no such file or folder", remedy=_nearest(path))
    return _digest_pattern(uri, path, memory)


def _nearest(path: Path) -> str:
    try:
        names = os.listdir(path.parent)
    except OSError:
        return "check the path; relative ones start at the folder of the spec"
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"did you mean {near[0]!r}?" if near else "check the path; relative ones start at the folder of the spec"


def _digest_pattern(uri: str, pattern: Path, memory: DigestMemory) -> str:
    """Of what a glob matches, named relative to the last folder before the first sign, as in a listing of it."""
    signs = [i for i, part in enumerate(pattern.parts) if any(sign in part for sign in "*?[")]
    base, rest = Path(*pattern.parts[: signs[0]]), str(Path(*pattern.parts[signs[0] :]))
    found: dict[str, Found] = {}
    problems: list[Problem] = []
    for match in sorted(base.glob(rest)):
        for entry in walk(match):
            if isinstance(entry, Problem):
                problems.append(entry)
            else:
                name = entry.path.relative_to(base).as_posix()
                found[name] = Found(name, entry.path, entry.stamp)
    refuse(uri, problems)
    if not found:
        raise UserError(f"{uri}: no file matches", remedy="check the pattern; relative ones start at the spec's folder")
    return digest_files(list(found.values()), place=pattern, written=uri, memory=memory)


def _package_folder(package: str, uri: str) -> Path:
    # find_spec does not run the package: importing scikit-learn would cost more than the whole plan.
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"{uri}: {package} is not installed", remedy=f"pip install {package}")
    return Path(spec.submodule_search_locations[0])


def _digest_sklearn(uri: str, name: str, memory: DigestMemory) -> str:
    if name not in SKLEARN_FILES:
        near = difflib.get_close_matches(name, SKLEARN_FILES, n=1)
        remedy = f"did you mean sklearn://{near[0]}?" if near else f"use one of {', '.join(sorted(SKLEARN_FILES))}"
        raise UserError(f"{uri}: scikit-learn ships no such data", remedy=remedy)
    folder = _package_folder("sklearn", uri) / "datasets" / "data"
    return digest_tree(folder / SKLEARN_FILES[name], written=uri, memory=memory)


def _digest_torchvision(uri: str, name: str, data_root: Path | None, memory: DigestMemory) -> str:
    """Of the checksums that torchvision demands of its download, read from its source; else of the files on disk."""
    folder = _package_folder("torchvision", uri) / "datasets"
    checksums, known = _published_checksums(folder, name, memory)
    if checksums:
        return hashlib.sha256("\n".join([name, *checksums]).encode()).hexdigest()
    on_disk = data_root / "torchvision" / name if data_root else None
    if on_disk is not None and on_disk.exists():
        return digest_tree(on_disk, written=uri, memory=memory)
    near = difflib.get_close_matches(name, known, n=1)
    raise UserError(
        f"{uri}: torchvision publishes no checksum for {name!r}, so its bytes cannot be told apart",
        remedy=f"did you mean torchvision://{near[0]}?" if near else "download it and name its folder instead",
    )


def _published_checksums(folder: Path, name: str, memory: DigestMemory) -> tuple[list[str], list[str]]:
    stamps = digest_tree(folder / "__init__.py", written="torchvision", memory=memory)
    place = folder / f"{name}.checksums"
    kept = memory.recall("torchvision", place)
    if kept and kept["package"] == stamps:
        kept_checksums, kept_known = kept["checksums"], kept["known"]
        assert isinstance(kept_checksums, list)
        assert isinstance(kept_known, list)
        return [str(c) for c in kept_checksums], [str(k) for k in kept_known]
    from platformops.pipeline.checksums import checksums_by_class

    by_class = checksums_by_class(folder)
    checksums, known = by_class.get(name, []), sorted(by_class)
    memory.remember({("torchvision", place): {"package": stamps, "checksums": checksums, "known": known}})
    return checksums, known


def _digest_objects(uri: str) -> str:
    """Of names, sizes and entity tags as the object store lists them: the bytes stay where they are."""
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(uri)
        listing = system.find(path, detail=True)
    except ImportError as error:
        raise UserError(f"{uri}: its client is not installed", remedy="pip install 'platformops[s3]'") from error
    except (OSError, ValueError) as error:
        raise DataRefused(f"{uri}: cannot be listed: {error}", remedy="check the address and credentials") from error
    if not listing:
        raise DataRefused(f"{uri}: holds no object", remedy="check the address")
    base = str(path).rstrip("/")
    lines = [f"{name.removeprefix(base)}\0{item['size']}\0{_tag(uri, item)}" for name, item in sorted(listing.items())]
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()


def _tag(uri: str, item: dict[str, object]) -> str:
    tag = item.get("ETag") or item.get("etag") or item.get("md5Hash")
    if not tag:
        raise DataRefused(f"{uri}: the object store gives no entity tags", remedy="copy the data to a folder")
    return str(tag).strip('"')
