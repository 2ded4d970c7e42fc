"""Versions are registered exactly once, numbered without gaps, and aliases move by compare-and-set."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from platformops.errors import StoreConflict, StoreError, StoreUnavailable, UserError
from platformops.registry import registry
from platformops.registry.records import Alias, Lineage, Verdicts
from platformops.store.memory import MemoryStore
from platformops.store.records import ABSENT, Put
from platformops.store.sqlite import SqliteStore

LINEAGE = Lineage({"sklearn://digits": "d1"}, {"prepare": "p1", "train": "t1"}, "run-1", "c0ffee", True)


@pytest.fixture(params=["memory", "sqlite"])
def store(request, tmp_path):
    opened = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "store.db")
    yield opened
    opened.close()


def register(store, fingerprint="f1", model="digits", now=5.0, **changes):
    fields = {
        "artifacts": {"train": {"fingerprint": "t1", "manifest_digest": "m1"}},
        "metrics": {"accuracy": 0.97, "intervals": {"accuracy": [0.96, 0.98]}},
        "params": {"lr": 0.01, "model": "small_cnn"},
        "lineage": LINEAGE,
    } | changes
    return registry.register(store, model=model, fingerprint=fingerprint, now=now, **fields)


def test_a_registered_version_reads_back_field_by_field(store):
    version = register(store)
    assert version.name == "digits:v1"
    assert registry.get_version(store, "digits", 1) == version
    assert registry.find_by_fingerprint(store, "f1", model="digits") == version


def test_numbers_rise_by_one_within_a_model(store):
    assert [register(store, f"f{i}").number for i in range(12)] == list(range(1, 13))
    assert register(store, "other", model="photos").number == 1
    assert [version.number for version in registry.list_versions(store, "digits")] == list(range(1, 13))
    assert [version.name for version in registry.list_versions(store)][-1] == "photos:v1"


def test_a_model_whose_name_starts_like_another_is_not_mixed_up_with_it(store):
    register(store, "f1", model="digits")
    assert register(store, "f2", model="digits-2").number == 1
    assert len(registry.list_versions(store, "digits")) == 1


def test_registering_a_fingerprint_again_gives_the_version_it_is(store):
    first = register(store, now=1.0)
    again = register(store, now=2.0, metrics={"accuracy": 0.5})
    assert again == first
    assert len(registry.list_versions(store)) == 1


def test_one_fingerprint_is_a_version_of_each_model_that_registers_it(store):
    register(store, "f0")
    assert register(store, "f1").number == 2
    assert register(store, "f1", model="copy").number == 1


def test_callers_at_the_same_time_register_each_fingerprint_once_and_leave_no_gap(store):
    start = threading.Barrier(8)

    def race(i):
        start.wait()
        return [register(store, f"f{(i + n) % 10}") for n in range(10)]

    with ThreadPoolExecutor(8) as pool:
        answers = [version for versions in pool.map(race, range(8)) for version in versions]
    by_fingerprint = {}
    for version in answers:
        by_fingerprint.setdefault(version.fingerprint, set()).add(version.number)
    assert all(len(numbers) == 1 for numbers in by_fingerprint.values())
    assert sorted(version.number for version in registry.list_versions(store)) == list(range(1, 11))


class DyingStore(MemoryStore):
    """Fails before or after the n-th commit took effect, as a machine that dies there would."""

    def __init__(self, *, after):
        super().__init__()
        self.after, self.dies = after, True

    def commit(self, puts):
        if self.dies and not self.after:
            raise StoreUnavailable("died before")
        versions = super().commit(puts)
        if self.dies:
            raise StoreUnavailable("died after")
        return versions


@pytest.mark.parametrize("after", [False, True])
def test_a_crash_while_registering_leaves_one_version_in_the_end(after):
    store = DyingStore(after=after)
    with pytest.raises(StoreUnavailable):
        register(store)
    store.dies = False
    assert register(store).number == 1
    assert len(registry.list_versions(store)) == 1
    assert register(store, "f2").number == 2


def test_a_version_that_does_not_exist_is_refused_with_what_exists(store):
    with pytest.raises(UserError, match="no version of digits is registered"):
        registry.get_version(store, "digits", 1)
    register(store, "f1")
    register(store, "f2")
    with pytest.raises(UserError, match="digits:v3 does not exist: digits has versions 1 to 2"):
        registry.get_version(store, "digits", 3)


def test_an_alias_is_created_moved_and_resolved(store):
    register(store, "f1")
    register(store, "f2")
    assert registry.resolve_alias(store, "digits", "champion") is None
    first = registry.set_alias(store, "digits", "champion", 1, expect=ABSENT)
    assert first == Alias("digits", "champion", 1, 1)
    moved = registry.set_alias(store, "digits", "champion", 2, expect=first.token)
    assert registry.resolve_alias(store, "digits", "champion") == moved
    assert registry.aliases(store, "digits") == {"champion": moved}


def test_of_two_promotions_from_the_same_state_the_second_loses(store):
    for i in range(1, 4):
        register(store, f"f{i}")
    read = registry.set_alias(store, "digits", "champion", 1, expect=ABSENT)
    registry.set_alias(store, "digits", "champion", 2, expect=read.token)
    with pytest.raises(StoreConflict):
        registry.set_alias(store, "digits", "champion", 3, expect=read.token)
    assert registry.resolve_alias(store, "digits", "champion").number == 2


def test_a_promotion_that_was_undone_meanwhile_still_counts_as_lost(store):
    register(store, "f1")
    register(store, "f2")
    read = registry.set_alias(store, "digits", "champion", 1, expect=ABSENT)
    there = registry.set_alias(store, "digits", "champion", 2, expect=read.token)
    registry.set_alias(store, "digits", "champion", 1, expect=there.token)
    with pytest.raises(StoreConflict):
        registry.set_alias(store, "digits", "champion", 2, expect=read.token)


def test_an_alias_cannot_point_at_a_version_that_does_not_exist(store):
    with pytest.raises(UserError, match="does not exist"):
        registry.set_alias(store, "digits", "champion", 1, expect=ABSENT)
    assert registry.aliases(store, "digits") == {}


def test_verdicts_are_kept_beside_the_version_which_never_changes(store):
    version = register(store)
    assert registry.get_verdicts(store, "digits", 1) == Verdicts()
    verdicts = Verdicts(("accuracy", "parity"), "accuracy 0.91 is below 0.95", {"accuracy": {"value": 0.91}})
    registry.mark_verdicts(store, "digits", 1, verdicts)
    assert registry.get_verdicts(store, "digits", 1) == verdicts
    assert registry.get_version(store, "digits", 1) == version
    with pytest.raises(UserError):
        registry.mark_verdicts(store, "digits", 2, verdicts)


@pytest.mark.parametrize("name", ["", "a/b", "../a"])
def test_a_name_that_would_be_another_key_is_refused(store, name):
    with pytest.raises(UserError, match="cannot be a name"):
        register(store, model=name)
    with pytest.raises(UserError, match="cannot be a name"):
        register(store, fingerprint=name)
    register(store)
    with pytest.raises(UserError, match="cannot be a name"):
        registry.set_alias(store, "digits", name, 1, expect=ABSENT)


@pytest.mark.parametrize(
    ("field", "value"),
    [("number", "1"), ("number", True), ("metrics", [1]), ("created_at", None), ("lineage", {}), ("fingerprint", 3)],
)
def test_a_stored_version_with_a_wrong_field_is_refused_by_name(store, field, value):
    register(store)
    (entry,) = store.scan("version/")
    store.commit([Put(entry.key, {**entry.value, field: value}, entry.version)])
    named = "sources" if field == "lineage" else field
    with pytest.raises(StoreError, match=f"{entry.key}: the field '{named}'"):
        registry.get_version(store, "digits", 1)
