"""A page on one release: what was decided and why, which gates it passed, and what users met on either side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from platformops.delivery.records import Decision, GateResult, Rollout
from platformops.observation.charts import line_chart
from platformops.observation.page import figures, page, table


@dataclass(frozen=True, slots=True)
class Side:
    """What was seen of one of the two revisions while they were compared."""

    name: str
    requests: int
    copies: int
    failures: int
    labelled: int
    wrong: int
    latencies_ms: Sequence[tuple[float, int]]
    """Upper bounds, rising, and how many calls took so long."""


def render(rollout: Rollout, decisions: Sequence[Decision], sides: Sequence[Side]) -> str:
    """One HTML file without scripts or anything from elsewhere; `decisions` newest first."""
    return page(
        f"{rollout.name}: {rollout.state.value}",
        rollout.reason,
        [
            ("What happened", _story(rollout, decisions)),
            ("Gates and guards", _gates(rollout.gates)),
            ("Candidate and stable", _sides(sides)),
        ],
    )


def _story(rollout: Rollout, decisions: Sequence[Decision]) -> str:
    rows = [
        (f"{datetime.fromtimestamp(d.decided_at, UTC):%Y-%m-%d %H:%M:%S}",
         f"{d.decided_at - rollout.started_at:,.0f} s", d.decision, d.reason)
        for d in reversed(decisions)
    ]  # fmt: skip
    return table(("when (UTC)", "after", "decision", "because"), rows)


def _gates(gates: Sequence[GateResult]) -> str:
    rows = [(g.name, "passed" if g.passed else "refused", g.reason, g.would_change) for g in gates]
    return table(("gate", "state", "why", "another result"), rows)


def _sides(sides: Sequence[Side]) -> str:
    rows = [
        (s.name, f"{s.requests:,}", f"{s.copies:,}", f"{s.failures:,}", f"{s.wrong:,} of {s.labelled:,}") for s in sides
    ]
    heads = ("revision", "requests of users", "copies", "failures", "wrong answers")
    charts = [(f"Calls of {s.name}", _within(s)) for s in sides if s.latencies_ms]
    return table(heads, rows) + figures(charts)


def _within(side: Side) -> str:
    """Share of calls that took at most so long."""
    total, reached, points = sum(count for _, count in side.latencies_ms), 0, []
    for bound_ms, count in side.latencies_ms:
        reached += count
        points.append((bound_ms, reached / total))
    return line_chart([x for x, _ in points], [y for _, y in points], x_label="ms", y_label="share of calls", low=0.0)
