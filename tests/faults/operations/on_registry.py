"""Registering a model version, promoting one, and asking for the release of one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from platformops.delivery.systems import load_system, newest_rollout, request_release
from platformops.registry.records import Lineage
from platformops.registry.registry import (
    find_by_fingerprint,
    get_version,
    list_versions,
    register,
    resolve_alias,
    set_alias,
)
from platformops.spec.types import PlatformSpec
from platformops.store.records import ABSENT, Store
from tests.faults.operations.on_store import store_in
from tests.faults.operations.record import Operation, Say


def two_versions(folder: Path) -> None:
    with store_in(folder) as store:
        for n in (1, 2):
            _register(store, f"fp{n}")
        set_alias(store, "model", "champion", 1, expect=ABSENT)


def _register(store: Store, fingerprint: str) -> int:
    version = register(
        store,
        model="model",
        fingerprint=fingerprint,
        artifacts={stage: {"fingerprint": fingerprint, "manifest_digest": "0" * 64} for stage in ("train", "evaluate")},
        metrics={"accuracy": 0.9},
        params={},
        lineage=Lineage({}, {}, "run", "unknown", False),
        now=1.0,
    )
    return version.number


def register_third(folder: Path, say: Say) -> None:
    with store_in(folder) as store:
        say(str(_register(store, "fp3")))


def check_registered(folder: Path, said: Sequence[str]) -> None:
    with store_in(folder) as store:
        numbers = [version.number for version in list_versions(store, "model")]
        known = find_by_fingerprint(store, "fp3", model="model")
        assert numbers in ([1, 2], [1, 2, 3])
        assert (known is not None) == (len(numbers) == 3), "the version and the note of its fingerprint, or neither"
        assert said in ([], ["3"])
        assert not said or numbers == [1, 2, 3]
        assert _register(store, "fp3") == 3
        assert len(list_versions(store, "model")) == 3, "exactly one"


def promote(folder: Path, say: Say) -> None:
    with store_in(folder) as store:
        alias = resolve_alias(store, "model", "champion")
        assert alias is not None
        say(str(set_alias(store, "model", "champion", 2, expect=alias.token).number))


def check_promoted(folder: Path, said: Sequence[str]) -> None:
    with store_in(folder) as store:
        alias = resolve_alias(store, "model", "champion")
        assert alias is not None
        assert alias.number in (1, 2)
        assert not said or alias.number == 2
        assert [version.number for version in list_versions(store, "model")] == [1, 2]
    promote(folder, lambda _: None)


SPEC = PlatformSpec.model_validate({
    "system": "model", "app": "image", "data": {"source": "sklearn://digits"}, "gates": {"accuracy": ">= 0.9"},
})  # fmt: skip


def release(folder: Path, say: Say) -> None:
    with store_in(folder) as store:
        version = get_version(store, "model", 2)
        say(request_release(store, SPEC, version, classes=("a", "b"), now=2.0).name)


def check_released(folder: Path, said: Sequence[str]) -> None:
    with store_in(folder) as store:
        system, _ = load_system(store, "model")
        rollout, _ = newest_rollout(store, "model")
        decisions = store.scan("decision/")
        assert (system is None) == (rollout is None) == (not decisions), "system, rollout and decision, or none of them"
        assert not said or rollout is not None
        assert len(store.scan("rollout/")) <= 1
    release(folder, lambda _: None)
    with store_in(folder) as store:
        assert len(store.scan("rollout/")) == 1, "asked for again, it is the same"


ON_REGISTRY = (
    Operation("register", two_versions, register_third, check_registered),
    Operation("promote", two_versions, promote, check_promoted),
    Operation("release", two_versions, release, check_released),
)
