"""What exists: registers model versions exactly once, and moves aliases by compare-and-set."""

from __future__ import annotations

from collections.abc import Mapping

from platformops.errors import StoreConflict, UserError
from platformops.registry.documents import (
    alias_of,
    verdicts_document,
    verdicts_of,
    version_document,
    version_of,
)
from platformops.registry.records import Alias, Lineage, ModelVersion, Verdicts
from platformops.store.records import ABSENT, JsonObject, Put, Store, numbered

ATTEMPTS = 1000  # each lost one means that somebody else registered a version, so even a crowd gets through


def register(
    store: Store,
    *,
    model: str,
    fingerprint: str,
    artifacts: JsonObject,
    metrics: JsonObject,
    params: JsonObject,
    lineage: Lineage,
    now: float,
) -> ModelVersion:
    """The version of `model` that `fingerprint` is: registered now, or whenever it first was.

    One commit writes the version and the note that its fingerprint is registered, so no crash leaves one without the
    other, and numbers are dense: 1, 2, 3...
    """
    _check_name(model)
    _check_name(fingerprint)
    for _ in range(ATTEMPTS):
        known = find_by_fingerprint(store, fingerprint, model=model)
        if known is not None:
            return known
        number = _last_number(store, model) + 1
        version = ModelVersion(model, number, fingerprint, artifacts, metrics, params, lineage, now)
        try:
            store.commit(
                [
                    Put(_version_key(model, number), version_document(version), ABSENT),
                    Put(_registered_key(fingerprint, model), {"number": number}, ABSENT),
                ]
            )
        except StoreConflict:
            continue  # somebody registered meanwhile: perhaps this very fingerprint
        return version
    raise StoreConflict(f"versions of {model} are registered by others all the time", remedy="try again a little later")


def get_version(store: Store, model: str, number: int) -> ModelVersion:
    """Raises UserError, naming what exists, for a version that was never registered."""
    entry = store.get(_version_key(_check_name(model), number))
    if entry is None:
        last = _last_number(store, model)
        has = f"{model} has versions 1 to {last}" if last else f"no version of {model} is registered"
        raise UserError(f"{model}:v{number} does not exist: {has}", remedy="list them: platformops models")
    return version_of(entry)


def list_versions(store: Store, model: str | None = None) -> tuple[ModelVersion, ...]:
    """Oldest first; of every model, in order of names, when none is given."""
    prefix = "version/" if model is None else f"version/{_check_name(model)}/"
    return tuple(version_of(entry) for entry in store.scan(prefix))


def find_by_fingerprint(store: Store, fingerprint: str, *, model: str) -> ModelVersion | None:
    """The version of `model` that this fingerprint was registered as."""
    entry = store.get(_registered_key(_check_name(fingerprint), _check_name(model)))
    if entry is None:
        return None
    number = entry.value["number"]
    assert isinstance(number, int)
    return get_version(store, model, number)


def set_alias(store: Store, model: str, alias: str, number: int, *, expect: int) -> Alias:
    """Points `alias` at a version; `expect` is the token of the Alias that was read, ABSENT when there was none.

    Raises StoreConflict when somebody else moved it first, UserError for a version that does not exist.
    """
    get_version(store, model, number)
    token = store.put(_alias_key(model, alias), {"number": number}, expect=expect)
    return Alias(model, alias, number, token)


def resolve_alias(store: Store, model: str, alias: str) -> Alias | None:
    entry = store.get(_alias_key(model, alias))
    return None if entry is None else alias_of(entry)


def aliases(store: Store, model: str) -> Mapping[str, Alias]:
    """Name -> where it points."""
    found = (alias_of(entry) for entry in store.scan(f"alias/{_check_name(model)}/"))
    return {alias.name: alias for alias in found}


def mark_verdicts(store: Store, model: str, number: int, verdicts: Verdicts) -> None:
    """Keeps what a release found out about a version, in place of what an earlier release did."""
    get_version(store, model, number)
    store.put(_verdicts_key(model, number), verdicts_document(verdicts), expect=None)


def get_verdicts(store: Store, model: str, number: int) -> Verdicts:
    """Empty verdicts for a version that no release has judged."""
    entry = store.get(_verdicts_key(_check_name(model), number))
    return Verdicts() if entry is None else verdicts_of(entry)


def _last_number(store: Store, model: str) -> int:
    newest = store.scan(f"version/{model}/", limit=1, descending=True)
    return version_of(newest[0]).number if newest else 0


def _version_key(model: str, number: int) -> str:
    return f"version/{model}/{numbered(number)}"


def _registered_key(fingerprint: str, model: str) -> str:
    return f"registered/{fingerprint}/{model}"


def _alias_key(model: str, alias: str) -> str:
    return f"alias/{_check_name(model)}/{_check_name(alias)}"


def _verdicts_key(model: str, number: int) -> str:
    return f"verdicts/{model}/{numbered(number)}"


def _check_name(name: str) -> str:
    if not name or "/" in name:
        raise UserError(f"{name!r} cannot be a name here", remedy="names are not empty and hold no `/`")
    return name
