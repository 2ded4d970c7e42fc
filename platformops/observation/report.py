"""The report of one evaluated model: a single HTML page with pictures, which needs no network and runs no script."""

from __future__ import annotations

from html import escape

from platformops.observation import sections
from platformops.observation.page import STYLE
from platformops.observation.records import Report


def render(report: Report) -> str:
    """The page as HTML; every text of the report is escaped."""
    every = (
        ("Figures", sections.headlines(report.metrics)),
        ("Data", sections.data(report)),
        ("Training", sections.training(report.history)),
        ("Confusion", sections.confusion(report)),
        ("Calibration", sections.calibration(report.metrics)),
        ("Classes", sections.classes(report)),
        ("Worst mistakes", sections.mistakes(report.mistakes)),
        ("Parameters", sections.facts(report.params)),
        ("Lineage", sections.facts(report.lineage)),
    )
    shown = [(title, body) for title, body in every if body]
    links = "".join(f'<a href="#{_anchor(title)}">{title}</a>' for title, _ in shown)
    body = "".join(f'<section id="{_anchor(t)}"><h2>{t}</h2>{content}</section>' for t, content in shown)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        'img-src data:">'
        f"<title>{escape(report.title)}: evaluation</title><style>{STYLE}</style></head>"
        f"<body><header><h1>{escape(report.title)}</h1><p>{_summary(report)}</p><nav>{links}</nav></header>"
        f"<main>{body}</main></body></html>"
    )


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


def _summary(report: Report) -> str:
    rows, accuracy = report.metrics.get("rows"), report.metrics.get("accuracy")
    parts = [f"{len(report.classes):,} classes"]
    if isinstance(rows, int):
        parts.append(f"{rows:,} test rows")
    if isinstance(accuracy, float):
        parts.append(f"{accuracy:.2%} answered rightly")
    return " · ".join(parts)
