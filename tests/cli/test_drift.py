"""`drift`: from the gateway's samples to what changed and since when."""

import pytest

from platformops.cli.drift import loop_document, seen
from platformops.delivery import retraining
from platformops.delivery.retraining import Recipe, recipe_puts
from platformops.errors import UserError
from platformops.store.memory import MemoryStore
from platformops.store.records import Put


def store_of(count, *, flips_at=None, version="digits:v1"):
    store = MemoryStore()
    puts = []
    for i in range(count):
        label = "ab"[i * 7 % 2]
        truth = label if (i % 10) and (flips_at is None or i < flips_at) else "c"
        value = {"request_id": f"{i:06}", "at": 1000.0 + i, "model_version": version, "label": label, "truth": truth}
        puts.append(Put(f"sample/digits/{i:06}", value, None))
    store.commit(puts)
    return store


def test_a_steady_system_is_told_to_be_steady():
    document = seen(store_of(1200), "digits")
    assert document["state"] == "steady"
    assert {row["kind"] for row in document["streams"]} == {"prediction", "label", "error"}


def test_answers_that_become_wrong_are_found_with_their_beginning():
    document = seen(store_of(1200, flips_at=900), "digits")
    assert document["state"] == "drift"
    assert document["since"] == pytest.approx(1900, abs=30)
    error = next(row for row in document["streams"] if row["kind"] == "error")
    assert error["now"] > error["reference"]


def test_too_few_samples_say_how_many_are_missing():
    document = seen(store_of(50), "digits")
    assert document["state"] == "unknown"
    assert "200 are needed" in document["reason"]


def test_an_unknown_system_is_refused():
    with pytest.raises(UserError, match="no system"):
        seen(MemoryStore(), "digits")


def test_what_the_loop_does_is_told_and_may_be_paused():
    store = store_of(300)
    assert loop_document(store, "digits") is None
    store.commit(recipe_puts(Recipe("digits", "/digits.yaml", retrain=True)))
    assert loop_document(store, "digits")["state"] == "watching"
    retraining.pause(store, "digits", who="ada", now=1.0)
    document = loop_document(store, "digits")
    assert (document["state"], document["reason"], document["retrains"]) == ("paused", "paused by ada", True)
