"""Keys: what is stored of them, what opens what, and the file that holds one."""

import os
import stat

import pytest

from platformops.errors import PlatformError
from platformops.security.key_file import read_key_file, write_key_file
from platformops.security.keys import SCOPES, KeyRing, new_key
from platformops.store.records import Entry

NOW = 1_700_000_000.0


def made(**options):
    return new_key(**{"scopes": ["predict"], "systems": ["digits"], "now": NOW, **options})


def entry_of(key, **changed):
    return Entry(key.put.key, {**key.put.value, **changed}, 1)


def test_only_the_hash_of_a_key_is_stored():
    key = made()
    assert key.token.startswith("po_")
    assert len(key.token) >= 40
    assert key.token not in str(key.put) + repr(key)
    assert key.put.expect == 0


def test_no_two_keys_are_alike():
    keys = [made() for _ in range(100)]
    assert len({k.token for k in keys}) == len({k.put.key for k in keys}) == 100


def test_a_key_is_known_among_others_and_by_nothing_but_itself():
    keys = [made() for _ in range(5)]
    entries = [entry_of(k) for k in keys]
    found = KeyRing(entries).check(keys[3].token.encode(), now=NOW)
    assert found is not None
    assert f"key/{found.key_id}" == keys[3].put.key
    for wrong in (b"", b"po_", keys[3].token[:-1].encode(), keys[3].token.encode() + b" ", b"x" * 1_000_000, b"\xff\0"):
        assert KeyRing(entries).check(wrong, now=NOW) is None


def test_the_stored_hash_opens_nothing():
    key = made()
    assert KeyRing([entry_of(key)]).check(str(key.put.value["sha256"]).encode(), now=NOW) is None


def test_a_key_ends_when_it_expires_or_is_revoked():
    key = made(expires_at=NOW + 60)
    assert KeyRing([entry_of(key)]).check(key.token.encode(), now=NOW + 59)
    assert KeyRing([entry_of(key)]).check(key.token.encode(), now=NOW + 60) is None
    assert KeyRing([entry_of(key, revoked=True)]).check(key.token.encode(), now=NOW) is None


@pytest.mark.parametrize("granted", SCOPES)
@pytest.mark.parametrize("wanted", [*SCOPES, "unheard-of"])
@pytest.mark.parametrize(("systems", "system", "reaches"), [
    (["digits"], "digits", True), (["digits"], "photos", False), (["*"], "photos", True), ([], "digits", False),
    (["digits"], None, True),
])  # fmt: skip
def test_a_scope_includes_the_lower_ones_on_its_systems_only(granted, wanted, systems, system, reaches):
    key = made(scopes=[granted], systems=systems)
    identity = KeyRing([entry_of(key)]).check(key.token.encode(), now=NOW)
    includes = wanted in SCOPES and SCOPES.index(wanted) <= SCOPES.index(granted)
    assert identity.may(wanted, system=system) is (reaches and includes)


@pytest.mark.parametrize("changed", [{"sha256": None}, {"scopes": "admin"}, {"scopes": None}, {"systems": "*"}])
def test_a_record_of_the_wrong_shape_opens_nothing(changed):
    key = made(scopes=["admin"], systems=["*"])
    identity = KeyRing([entry_of(key, **changed)]).check(key.token.encode(), now=NOW)
    assert identity is None or not identity.may("predict", system="digits")


def test_a_key_file_is_for_its_owner_alone(tmp_path):
    path = tmp_path / "keys" / "digits.key"
    write_key_file(path, "po_secret")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert read_key_file(path) == "po_secret"
    assert [p.name for p in path.parent.iterdir()] == ["digits.key"]


def test_a_key_file_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "digits.key"
    write_key_file(path, "po_first")
    write_key_file(path, "po_second")
    assert read_key_file(path) == "po_second"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o610])
def test_a_key_file_that_others_could_read_is_refused(tmp_path, mode):
    path = tmp_path / "digits.key"
    write_key_file(path, "po_secret")
    path.chmod(mode)
    with pytest.raises(PlatformError, match="others on this machine") as caught:
        read_key_file(path)
    assert "po_secret" not in str(caught.value)


def test_a_missing_key_file_is_no_error(tmp_path):
    assert read_key_file(tmp_path / "digits.key") is None


@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "bytes"])
def test_what_is_no_plain_key_file_is_refused(tmp_path, kind):
    path = tmp_path / "digits.key"
    if kind == "link":
        (tmp_path / "other").touch(0o600)
        path.symlink_to(tmp_path / "other")
    elif kind == "fifo":
        os.mkfifo(path, 0o600)
    elif kind == "folder":
        path.mkdir(0o700)
    else:
        path.touch(0o600)
        path.write_bytes(b"\xff\xfe")
    with pytest.raises(PlatformError):
        read_key_file(path)
