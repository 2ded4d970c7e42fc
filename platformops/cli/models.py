"""`platformops models`: what exists, which version is champion, and how good each is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from platformops.cli.options import AsJson
from platformops.store.records import Json, JsonObject

if TYPE_CHECKING:
    from platformops.registry.records import ModelVersion
    from platformops.store.records import Store

SHOWN = ("accuracy", "precision_macro", "recall_macro", "f1_macro")
"""Metrics with a column; `--json` has all."""
Model = Annotated[
    str, typer.Argument(help="Only this model, or the card of one version: digits:v1.", show_default=False)
]


def models(model: Model = "", json_: AsJson = False) -> None:
    """List model versions with aliases and metrics, newest first; or show the card of one."""
    from platformops.cli import settings
    from platformops.cli.cards import names_version, show_card
    from platformops.cli.output import print_json

    if names_version(model):
        show_card(model, as_json=json_)
        return
    with settings.opened_store(settings.home()) as store:
        versions = listed(store, model)
    if json_:
        print_json({"models": versions})
    else:
        _print(versions)


def listed(store: Store, model: str) -> list[JsonObject]:
    """Each version with its aliases, newest first; all models, or one."""
    from platformops.errors import UserError
    from platformops.registry.registry import list_versions
    from platformops.spec.echo import did_you_mean, shown

    versions = list_versions(store)
    names = sorted({version.model for version in versions})
    if model and model not in names:
        known = did_you_mean(model, names).removeprefix("; ")
        raise UserError(f"there is no model {shown(model)}", remedy=known or "`platformops up SPEC` makes one")
    wanted = [name for name in names if name == (model or name)]
    return [row for name in wanted for row in _rows(store, name, versions)]


def _rows(store: Store, model: str, versions: Sequence[ModelVersion]) -> Iterator[JsonObject]:
    from platformops.delivery.quality import quality_key, quality_of
    from platformops.registry.documents import version_document
    from platformops.registry.registry import aliases, get_verdicts

    pointing = aliases(store, model)
    for version in sorted((v for v in versions if v.model == model), key=lambda v: -v.number):
        labelled, wrong = quality_of(store.get(quality_key(version.name)))
        yield {
            **version_document(version),
            "name": version.name,
            "aliases": sorted(name for name, alias in pointing.items() if alias.number == version.number),
            "refused_by": list(get_verdicts(store, model, version.number).refused_by),
            "labelled": labelled,
            "wrong": wrong,
        }


def _print(versions: list[JsonObject]) -> None:
    from platformops.cli.output import next_step, print_table, say

    if not versions:
        say("No model versions yet.")
        next_step("platformops up configs/digits.yaml")
        return
    rows = [
        (
            str(v["name"]),
            _standing(v),
            *(_figure(v["metrics"], m) for m in SHOWN),
            _day(v["created_at"]),
        )
        for v in versions
    ]
    print_table(("version", "standing", *SHOWN, "made"), rows)
    next_step(f"platformops models {versions[0]['name']}")


def _standing(version: JsonObject) -> str:
    """Its aliases, and the gates that refused it."""
    refused = ", ".join(_words(version["refused_by"]))
    return " ".join([*_words(version["aliases"]), *([f"refused by {refused}"] if refused else [])])


def _words(value: Json) -> list[str]:
    return [str(v) for v in value] if isinstance(value, list) else []


def _figure(metrics: Json, name: str) -> str:
    value = metrics.get(name) if isinstance(metrics, Mapping) else None
    return f"{value:.4f}" if isinstance(value, int | float) else ""


def _day(at: Json) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M}" if isinstance(at, int | float) else ""
