"""Answers, for code and for data, what a step's identity asks: the digest of what is there now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from platformops.clock import Clock
from platformops.errors import AppError
from platformops.pipeline.memory import DigestMemory, stamp_of
from platformops.pipeline.modules import (
    PLATFORM,
    Module,
    Source,
    find_module,
    import_roots,
    modules_of,
    own_imports,
    read_source,
)
from platformops.pipeline.records import Stage
from platformops.pipeline.sources import digest_source
from platformops.store.records import JsonObject, Store


class Identity(Protocol):
    def code(self, stage: Stage) -> Mapping[str, str]:
        """Module name (or file as written) -> digest of its source, for all that decides the stage's result."""
        ...

    def source(self, uri: str) -> str:
        """Digest of the bytes behind a data source."""
        ...


class FileIdentity:
    """Reads modules and data of this machine, and remembers in the store what it has read."""

    def __init__(self, *, root: Path, data_root: Path | None, store: Store, clock: Clock) -> None:
        self._root = root
        self._roots = import_roots(root)
        self._data_root = data_root
        self._memory = DigestMemory(store, clock)
        self._parsed: dict[tuple[Path, str], Source] = {}

    def source(self, uri: str) -> str:
        return digest_source(uri, root=self._root, data_root=self._data_root, memory=self._memory)

    def code(self, stage: Stage) -> Mapping[str, str]:
        news: dict[tuple[str, Path], JsonObject] = {}
        found: dict[str, str] = {}
        waiting = list(self._entries(stage))
        while waiting:
            module = waiting.pop()
            if module.name not in found:
                source = self._source(module, news)
                found[module.name] = source.digest
                waiting += self._followed(module, source)
        self._memory.remember(news)
        return dict(sorted(found.items()))

    def _entries(self, stage: Stage) -> Iterable[Module]:
        yield find_module(stage.uses.partition(":")[0], self._roots)
        for entry in stage.code:
            if entry.endswith(".py"):
                yield self._file(entry)
            else:
                yield from modules_of(entry, self._roots)

    def _file(self, entry: str) -> Module:
        path = self._root / entry
        if not path.is_file():
            raise AppError(f"{entry}: there is no such file beside the spec", remedy="check `app` and its spelling")
        return Module(Path(entry).as_posix(), path)

    def _followed(self, module: Module, source: Source) -> Iterable[Module]:
        # Of PlatformOps only the listed modules count: an error text changed elsewhere must not retrain a model.
        if module.name.partition(".")[0] == PLATFORM:
            return ()
        return (m for m in own_imports(module, source.imports, self._roots) if m.path != module.path)

    def _source(self, module: Module, news: dict[tuple[str, Path], JsonObject]) -> Source:
        stamp = stamp_of(module.path.stat())
        kept = self._memory.recall("code", module.path)
        if kept and kept["stamp"] == stamp.text():
            imports = kept["imports"]
            assert isinstance(imports, list)
            return Source(str(kept["digest"]), tuple(str(name) for name in imports))
        place = (module.path, stamp.text())  # also while too fresh for the store: four stages share their modules
        source = self._parsed[place] = self._parsed.get(place) or read_source(module)
        if self._memory.is_settled(stamp):
            news["code", module.path] = {
                "stamp": stamp.text(),
                "digest": source.digest,
                "imports": list(source.imports),
            }
        return source
