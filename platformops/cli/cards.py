"""The model card of a version, with what its verified artifacts say of data and figures."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from platformops.cli import settings
from platformops.errors import PlatformError, UserError
from platformops.home import Home
from platformops.registry.card import model_card
from platformops.registry.records import ModelVersion
from platformops.registry.registry import aliases, get_verdicts, get_version
from platformops.store.artifacts import Artifacts
from platformops.store.records import JsonObject, Store

NAMED = re.compile(r"^(?P<model>[^:]+):v(?P<number>\d+)$")


def names_version(text: str) -> bool:
    """Whether `text` is like `digits:v3`."""
    return ":" in text


def card(name: str, store: Store, where: Home) -> str:
    """The card in Markdown. Raises UserError for a name or version that there is not."""
    named = NAMED.match(name)
    if named is None:
        raise UserError(f"{name!r} does not name a version", remedy="write MODEL:vNUMBER, such as digits:v1")
    version = get_version(store, named["model"], int(named["number"]))
    pointing = [a.name for a in aliases(store, version.model).values() if a.number == version.number]
    artifacts = Artifacts(where.artifacts_url, cache=where.cache)
    return model_card(
        version,
        purpose=str(version.params.get("purpose", "")),
        dataset=_document(version, "prepare", "dataset.json", artifacts),
        evaluation=_document(version, "evaluate", "metrics.json", artifacts),
        verdicts=get_verdicts(store, version.model, version.number),
        aliases=pointing,
    )


def _document(version: ModelVersion, stage: str, file: str, artifacts: Artifacts) -> JsonObject | None:
    """None where the artifact is gone or damaged: the card then says that it is not known."""
    place = version.artifacts.get(stage)
    if not isinstance(place, Mapping):
        return None
    try:
        folder = artifacts.open(str(place["fingerprint"]), str(place["manifest_digest"]))
        document: JsonObject = json.loads((folder / file).read_text(encoding="utf-8"))
    except (PlatformError, OSError, ValueError):
        return None
    return document


def show_card(name: str, *, as_json: bool) -> None:
    """Prints the card of one version."""
    from platformops.cli.output import next_step, print_json, say

    where = settings.home()
    with settings.opened_store(where) as store:
        text = card(name, store, where)
    if as_json:
        print_json({"version": name, "card": text})
        return
    for line in text.splitlines():
        say(line)
    next_step(f"platformops why {name}")
