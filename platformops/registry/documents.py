"""The registry's records as JSON documents and back, field by field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Never, TypeVar

from platformops.errors import StoreError
from platformops.registry.records import Alias, Lineage, ModelVersion, Provenance, Verdicts
from platformops.store.records import Entry, Json, JsonObject

T = TypeVar("T")


def version_document(version: ModelVersion) -> JsonObject:
    return {
        "model": version.model,
        "number": version.number,
        "fingerprint": version.fingerprint,
        "artifacts": version.artifacts,
        "metrics": version.metrics,
        "params": version.params,
        "lineage": lineage_document(version.lineage),
        "created_at": version.created_at,
    }


def version_of(entry: Entry) -> ModelVersion:
    read = _Reader(entry.key, entry.value)
    return ModelVersion(
        model=read.text("model"),
        number=read.whole("number"),
        fingerprint=read.text("fingerprint"),
        artifacts=read.object("artifacts"),
        metrics=read.object("metrics"),
        params=read.object("params"),
        lineage=lineage_in(entry.key, read.object("lineage")),
        created_at=read.real("created_at"),
    )


def lineage_document(lineage: Lineage) -> JsonObject:
    return {
        "sources": lineage.sources,
        "steps": lineage.steps,
        "run_id": lineage.run_id,
        "code_revision": lineage.code_revision,
        "code_dirty": lineage.code_dirty,
        "provenance": provenance_document(lineage.provenance),
    }


def lineage_in(key: str, document: JsonObject) -> Lineage:
    read = _Reader(key, document)
    return Lineage(
        sources=read.object("sources"),
        steps=read.object("steps"),
        run_id=read.text("run_id"),
        code_revision=read.text("code_revision"),
        code_dirty=read.flag("code_dirty"),
        provenance=provenance_in(key, document["provenance"]) if "provenance" in document else Provenance(),
    )


def provenance_document(provenance: Provenance) -> JsonObject:
    return {**asdict(provenance), "states": list(provenance.states)}


def provenance_in(key: str, document: Json) -> Provenance:
    read = _Reader(key, document if isinstance(document, Mapping) else {})
    texts = {field.name: read.text(field.name) for field in fields(Provenance) if field.name != "states"}
    return Provenance(**texts, states=read.texts("states"))


def verdicts_document(verdicts: Verdicts) -> JsonObject:
    return {"refused_by": verdicts.refused_by, "reason": verdicts.reason, "details": verdicts.details}


def verdicts_of(entry: Entry) -> Verdicts:
    read = _Reader(entry.key, entry.value)
    return Verdicts(refused_by=read.texts("refused_by"), reason=read.text("reason"), details=read.object("details"))


def alias_of(entry: Entry) -> Alias:
    _, model, name = entry.key.split("/")
    read = _Reader(entry.key, entry.value)
    return Alias(model, name, read.whole("number"), entry.version)


class _Reader:
    """Takes fields out of a document, refusing by name what is missing or of another type."""

    def __init__(self, key: str, document: JsonObject) -> None:
        self._key, self._document = key, document

    def text(self, name: str) -> str:
        return self._typed(name, str)

    def whole(self, name: str) -> int:
        return self._typed(name, int)

    def flag(self, name: str) -> bool:
        return self._typed(name, bool)

    def real(self, name: str) -> float:
        value = self._field(name)
        return float(value) if isinstance(value, int | float) else self._refuse(name)

    def object(self, name: str) -> JsonObject:
        value = self._field(name)
        return value if isinstance(value, Mapping) else self._refuse(name)

    def texts(self, name: str) -> tuple[str, ...]:
        value = self._field(name)
        if not isinstance(value, Sequence) or isinstance(value, str):
            return self._refuse(name)
        return tuple(part if isinstance(part, str) else self._refuse(name) for part in value)

    def _typed(self, name: str, kind: type[T]) -> T:
        value = self._field(name)
        return value if type(value) is kind else self._refuse(name)

    def _field(self, name: str) -> Json:
        return self._document.get(name)

    def _refuse(self, name: str) -> Never:
        raise StoreError(f"{self._key}: the field {name!r} is missing or of another type")
