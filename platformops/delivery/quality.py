"""How good a version's answers were, as far as their truth came back."""

from __future__ import annotations

from platformops.store.records import Entry


def quality_key(model_version: str) -> str:
    """Where the counts of `digits:v3` are kept."""
    return f"quality/{model_version}"


def quality_of(entry: Entry | None) -> tuple[int, int]:
    """How many answers of a version were labelled, and how many of them were wrong."""
    return (int(str(entry.value["labelled"])), int(str(entry.value["wrong"]))) if entry else (0, 0)
