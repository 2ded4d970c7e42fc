"""The model card: what a version is for, what it was made of, how good it is and where that ends, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from platformops.registry.lineage import lineage_of, said_revision
from platformops.registry.records import ModelVersion, Verdicts
from platformops.store.records import Json, JsonObject

_NESTED = ("intervals", "per_class", "confusion")


def model_card(
    version: ModelVersion,
    *,
    purpose: str = "",
    dataset: JsonObject | None = None,
    evaluation: JsonObject | None = None,
    verdicts: Verdicts | None = None,
    aliases: Sequence[str] = (),
) -> str:
    """The card as Markdown; `dataset` is the content of `dataset.json`, `evaluation` that of `metrics.json`.

    What is not known is said to be so, never left out.
    """
    figures = version.metrics if evaluation is None else evaluation
    parts = [
        f"# {_plain(version.name)}",
        _about(version, aliases),
        _section("Purpose", _plain(purpose) or "Not stated in the spec."),
        _section("Data", _data(version, dataset or {})),
        _section("Split", _split(dataset or {})),
        _section("Parameters", _table(("parameter", "value"), _rows(version.params))),
        _section("Metrics", _metrics(figures)),
        _section("Per class", _per_class(figures)),
        _section("Limits", _limits(version, figures, dataset or {}, verdicts or Verdicts())),
        _section("Lineage", f"```text\n{lineage_of(version)}\n```"),
        _section("Code", f"Revision {_plain(said_revision(version))}."),
    ]
    return "\n\n".join(parts) + "\n"


def _about(version: ModelVersion, aliases: Sequence[str]) -> str:
    named = f" Known as {', '.join(sorted(aliases))}." if aliases else ""
    return f"Version {version.number} of {_plain(version.model)}, fingerprint `{version.fingerprint}`.{named}"


def _data(version: ModelVersion, dataset: JsonObject) -> str:
    rows = _table(("source", "digest"), _rows(version.lineage.sources))
    counts = {name: dataset.get(name) for name in ("classes", "quarantined", "digest") if name in dataset}
    if isinstance(classes := counts.get("classes"), Sequence):
        counts["classes"] = f"{len(classes)}: {', '.join(str(name) for name in classes)}"
    return f"{rows}\n\n{_table(('prepared', 'value'), _rows(counts))}" if counts else rows


def _split(dataset: JsonObject) -> str:
    splits = dataset.get("splits")
    if not isinstance(splits, Mapping):
        return "Not recorded."
    sizes = {name: split.get("rows") for name, split in splits.items() if isinstance(split, Mapping)}
    return _table(("split", "rows"), _rows(sizes)) + "\n\nRows with equal content are on the same side."


def _metrics(figures: JsonObject) -> str:
    flat = {name: value for name, value in figures.items() if name not in _NESTED}
    intervals = figures.get("intervals")
    known = intervals if isinstance(intervals, Mapping) else {}
    return _table(
        ("metric", "value", "interval"),
        ((name, _said(flat[name]), _interval(known.get(name))) for name in sorted(flat)),
    )


def _interval(bounds: Json) -> str:
    if isinstance(bounds, Sequence) and not isinstance(bounds, str) and len(bounds) == 2:
        return f"{_said(bounds[0])} to {_said(bounds[1])}"
    return "not estimated"


def _per_class(figures: JsonObject) -> str:
    classes = figures.get("per_class")
    if not isinstance(classes, Mapping) or not classes:
        return "Not recorded."
    columns = sorted({name for row in classes.values() if isinstance(row, Mapping) for name in row})
    rows = ((name, *_cells(row, columns)) for name, row in classes.items())
    return _table(("class", *columns), rows)


def _cells(row: Json, columns: Sequence[str]) -> list[str]:
    return [_said(row.get(column)) if isinstance(row, Mapping) else "" for column in columns]


def _limits(version: ModelVersion, figures: JsonObject, dataset: JsonObject, verdicts: Verdicts) -> str:
    limits = ["Its figures hold for data like the test split above; other data was not measured."]
    if weakest := _weakest(figures):
        limits.append(weakest)
    if dataset.get("quarantined"):
        limits.append(f"{_said(dataset['quarantined'])} rows of the source could not be read and were left out.")
    if version.lineage.code_dirty:
        limits.append("It was made with uncommitted changes: the commit alone does not reproduce it.")
    if verdicts.refused_by:
        limits.append(f"Refused by {', '.join(verdicts.refused_by)}: {verdicts.reason}")
    return "\n".join(f"- {_plain(limit)}" for limit in limits)


def _weakest(figures: JsonObject) -> str:
    classes = figures.get("per_class")
    if not isinstance(classes, Mapping):
        return ""
    recalls = [
        (recall, name)
        for name, row in classes.items()
        if isinstance(row, Mapping) and isinstance(recall := row.get("recall"), int | float)
    ]
    return f"Weakest class: {min(recalls)[1]}, recall {_said(min(recalls)[0])}." if recalls else ""


def _section(title: str, body: str) -> str:
    return f"## {title}\n\n{body}"


def _rows(pairs: Mapping[str, Json]) -> Iterable[tuple[str, str]]:
    return ((name, _said(value)) for name, value in pairs.items())


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    body = [f"| {' | '.join(_plain(cell) for cell in row)} |" for row in rows]
    if not body:
        return "None recorded."
    return "\n".join([f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}", *body])


def _said(value: Json) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _plain(text: str) -> str:
    """On one line, and nothing in it that Markdown or HTML would take for markup."""
    line = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return line.replace("|", "\\|").replace("`", "'")
