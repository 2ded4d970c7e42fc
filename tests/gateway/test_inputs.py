"""Inputs beside sampled answers: only where they are wanted, and never more than the limits allow."""

import os

from platformops.gateway import inputs as kept
from platformops.gateway.inputs import Inputs, read_inputs
from tests.gateway.test_canary import opened


def holding(folder, **contents):
    inputs = Inputs(folder)
    inputs.systems = frozenset({"digits"})
    for id, content in contents.items():
        inputs.keep("digits", id, content)
    inputs.flush()
    return inputs


def test_inputs_of_a_system_that_wants_them_are_kept_for_this_user_only(tmp_path):
    holding(tmp_path, a=b"one", b=b"two")
    assert read_inputs(tmp_path, "digits", ["a", "b", "gone"]) == {"a": b"one", "b": b"two"}
    assert (tmp_path / "digits" / "a").stat().st_mode & 0o077 == 0
    assert (tmp_path / "digits").stat().st_mode & 0o077 == 0


def test_inputs_of_other_systems_are_not_kept(tmp_path):
    inputs = holding(tmp_path)
    inputs.keep("secrets", "a", b"one")
    inputs.flush()
    assert list(tmp_path.iterdir()) == []


def test_large_inputs_and_more_than_fit_in_memory_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "MOST_ITEM_BYTES", 4)
    monkeypatch.setattr(kept, "MOST_FRESH_BYTES", 6)
    holding(tmp_path, a=b"12345", b=b"1234", c=b"123", d=b"12")
    assert set(read_inputs(tmp_path, "digits", "abcd")) == {"b", "d"}


def test_old_inputs_go_and_then_the_oldest_beyond_the_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "MOST_BYTES", 6)
    inputs = holding(tmp_path, a=b"123", b=b"123", c=b"123", d=b"123")
    for at, id in enumerate("abcd"):
        os.utime(tmp_path / "digits" / id, (1000 + at, 1000 + at))
    inputs.sweep(oldest=1001)
    assert set(read_inputs(tmp_path, "digits", "abcd")) == {"c", "d"}
    inputs.sweep(oldest=1003)
    assert set(read_inputs(tmp_path, "digits", "abcd")) == {"d"}


def test_a_sampled_request_is_kept_with_what_was_asked(tmp_path):
    door = opened()
    inputs = holding(tmp_path)
    door.gateway.samples._inputs = inputs
    reply = door.ask(content=b"\x89PNG of a three")
    door.gateway.samples.flush()
    assert read_inputs(tmp_path, "digits", [reply.json()["request_id"]]) == {
        reply.json()["request_id"]: b"\x89PNG of a three"
    }
