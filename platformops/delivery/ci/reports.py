"""What a pipeline shows of its checks and its model: JUnit, OpenMetrics, a table for a comment, and a badge."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape, quoteattr

from platformops.delivery.ci.records import Check
from platformops.store.records import Json

SHOWN = ("accuracy", "precision_macro", "recall_macro", "f1_macro")
GREEN, RED = "#2e7d32", "#c62828"
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(suite: str, checks: Sequence[Check]) -> str:
    """A JUnit file, which every CI system shows: a test case for each check."""
    failed = sum(not check.passed for check in checks)
    cases = "".join(_case(suite, check) for check in checks)
    counts = f'tests="{len(checks)}" failures="{failed}" errors="0" skipped="0"'
    opening = f'<testsuite name={_attribute(suite)} {counts} time="{sum(check.seconds for check in checks):.3f}">'
    return f'<?xml version="1.0" encoding="utf-8"?>\n<testsuites>{opening}\n{cases}</testsuite></testsuites>\n'


def _case(suite: str, check: Check) -> str:
    opening = f'  <testcase classname={_attribute(suite)} name={_attribute(check.name)} time="{check.seconds:.3f}"'
    if check.passed:
        return f"{opening}/>\n"
    failure = f"<failure message={_attribute(check.reason)}>{escape(_clean(check.reason))}</failure>"
    return f"{opening}>{failure}</testcase>\n"


def _attribute(text: str) -> str:
    return quoteattr(_clean(text))


def _clean(text: str) -> str:
    """XML has no place for control characters, not even escaped."""
    return _NOT_XML.sub("?", text)


def open_metrics(system: str, metrics: Mapping[str, Json]) -> str:
    """One gauge a metric, as GitLab's merge requests compare them; ends as OpenMetrics wants."""
    lines = []
    for name, value in sorted(metrics.items()):
        if isinstance(value, int | float) and not isinstance(value, bool):
            metric = f"platformops_{re.sub(r'[^a-zA-Z0-9_]', '_', name)}"
            lines += [f"# TYPE {metric} gauge", f'{metric}{{system="{system}"}} {value:.10g}']
    return "\n".join([*lines, "# EOF"]) + "\n"


def marker(system: str) -> str:
    """By it a comment is found again, so that a second run changes it rather than adds one."""
    return f"<!-- platformops {system} -->"


def table(system: str, version: str, metrics: Mapping[str, Json], checks: Sequence[Check], *, code: str) -> str:
    """Markdown of a model and its gates, for a comment on the change."""
    figures = [(name, value) for name in SHOWN if isinstance(value := metrics.get(name), int | float)]
    head = "| " + " | ".join(name for name, _ in figures) + " |" if figures else ""
    rows = [head, "|" + " --- |" * len(figures), "| " + " | ".join(f"{v:.4f}" for _, v in figures) + " |"]
    gates = [f"| {_cell(c.name)} | {'passed' if c.passed else '**refused**'} | {_cell(c.reason)} |" for c in checks]
    parts = [
        f"{marker(system)}\n### {_cell(version)}: {_verdict(checks)}",
        "\n".join(rows) if figures else "",
        "\n".join(["| gate | state | why |", "| --- | --- | --- |", *gates]) if gates else "",
        f"Code {_cell(code)}.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _verdict(checks: Sequence[Check]) -> str:
    refused = [check.name for check in checks if not check.passed]
    return f"refused by {', '.join(refused)}" if refused else "passes its gates"


def _cell(text: str) -> str:
    line = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return line.replace("|", "\\|").replace("`", "'")


def badge(label: str, value: str, *, is_good: bool) -> str:
    """A small SVG picture: the label, and the value on green or red."""
    left, right = (10 + 7 * len(text) for text in (label, value))
    colour = GREEN if is_good else RED
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="20" role="img" '
        f"aria-label={_attribute(f'{label}: {value}')}>"
        f'<rect width="{left}" height="20" fill="#424242"/>'
        f'<rect x="{left}" width="{right}" height="20" fill="{colour}"/>'
        f'<g fill="#fff" font-family="Verdana,sans-serif" font-size="11" text-anchor="middle">'
        f'<text x="{left / 2:g}" y="14">{escape(_clean(label))}</text>'
        f'<text x="{left + right / 2:g}" y="14">{escape(_clean(value))}</text></g></svg>\n'
    )
