"""Gates: the spec's conditions on evidence, each with the figure, the limit, by how much, and what would help."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from platformops.delivery import parity, rehearsal
from platformops.delivery.records import Bound, Evaluation, GateResult, Replay
from platformops.spec.conditions import Condition, condition
from platformops.spec.conditions import parity as parity_condition

LATENCIES: Mapping[str, float] = {"p50_ms": 0.5, "p90_ms": 0.9, "p95_ms": 0.95, "p99_ms": 0.99}
"""Figures of the live endpoint and the quantile that each is."""
PARITY = "parity"
CLASSES = "classes"
"""Not a figure: the candidate must answer with the champion's classes, all of them and no other."""
CONFIDENCE = 0.95
"""Of a comparison with the champion that states none: the difference of two figures is noise without one."""


@dataclass(frozen=True, slots=True)
class WantedBound:
    """A bound that only the test rows can give; the edge computes it and hands it back as a Bound under `gate`."""

    gate: str
    metric: str
    is_relative: bool
    side: Literal["lower", "upper"]
    confidence: float


def conditions(gates: Mapping[str, str]) -> tuple[Condition, ...]:
    """The parsed gates on figures. Raises UserError."""
    return tuple(condition(name, text) for name, text in gates.items() if name not in (PARITY, CLASSES))


def wanted_bounds(gates: Mapping[str, str]) -> tuple[WantedBound, ...]:
    """The bounds that the gates before traffic need."""
    return tuple(
        WantedBound(c.metric, c.metric, c.relative_to_champion, _side(c), c.confidence or CONFIDENCE)
        for c in conditions(gates)
        if c.metric not in LATENCIES and (c.relative_to_champion or c.confidence)
    )


def judge_offline(gates: Mapping[str, str], evaluation: Evaluation) -> tuple[GateResult, ...]:
    """The gates that need no endpoint, in the order of the spec; a gate that nobody measures is refused."""
    if evaluation.problem:
        result = GateResult("evaluation", False, evaluation.problem, would_change="an evaluation that can be read")
        return (result,)
    figures = tuple(_offline(c, evaluation) for c in conditions(gates) if c.metric not in LATENCIES)
    return (*figures, _same_classes(evaluation)) if CLASSES in gates else figures


def judge_endpoint(gates: Mapping[str, str], replay: Replay, latency_margin: float) -> tuple[GateResult, ...]:
    """Servability, parity and the rehearsal, which every candidate must pass, and the latency gates of the spec."""
    servable = _servable(replay)
    tolerance = parity_condition(gates.get(PARITY, "exact")).tolerance
    seen = replay.rehearsal
    rehearsed = rehearsal.judge(seen, latency_margin=latency_margin, is_exact=not tolerance) if seen else ()
    if not servable.passed:
        return (*failed(rehearsed), servable)
    latencies = (_latency(c, replay.latencies_ms) for c in conditions(gates) if c.metric in LATENCIES)
    return (servable, parity.judge(replay.parity, tolerance), *latencies, *rehearsed)


def failed(results: Iterable[GateResult]) -> tuple[GateResult, ...]:
    return tuple(r for r in results if not r.passed)


def _side(c: Condition) -> Literal["lower", "upper"]:
    return "lower" if c.operator in (">", ">=") else "upper"


def _offline(c: Condition, evaluation: Evaluation) -> GateResult:
    if c.metric not in evaluation.metrics:
        known = ", ".join([*sorted(evaluation.metrics), *LATENCIES, PARITY])
        reason = f"{c.metric}: there is no such metric"
        return GateResult(c.metric, False, f"{reason}; there are {known}", would_change=f"one of {known}")
    figure = evaluation.metrics[c.metric]
    if c.relative_to_champion:
        return _relative(c, figure, evaluation)
    bound = evaluation.bounds.get(c.metric)
    if c.confidence is None:
        return _absolute(c, figure, figure, "")
    if bound is None:
        return GateResult(c.metric, False, f"{c.metric}: no bound at {c.confidence:.0%} could be computed")
    return _absolute(c, figure, bound.bound, f", {_least(c)} {_number(bound.bound)} at {c.confidence:.0%}")


def _same_classes(evaluation: Evaluation) -> GateResult:
    if not evaluation.champion:
        return GateResult(CLASSES, True, "classes: passes, as there is no champion to compare with", {}, "a champion")
    new = sorted(set(evaluation.classes) - set(evaluation.champion_classes))
    lost = sorted(set(evaluation.champion_classes) - set(evaluation.classes))
    evidence = {"new": new, "lost": lost}
    if not new and not lost:
        return GateResult(CLASSES, True, f"classes: the {len(evaluation.classes)} of the champion", evidence, "another")
    said = "; ".join([f"new: {', '.join(new)}"] * bool(new) + [f"lost: {', '.join(lost)}"] * bool(lost))
    reason = f"classes are not those of {evaluation.champion}: {said}"
    return GateResult(CLASSES, False, reason, evidence, "the same classes, or data.check.classes: any")


def _absolute(c: Condition, figure: float, judged: float, said: str) -> GateResult:
    """`judged` is the figure itself or its bound."""
    passed, slack = _holds(c, judged, c.limit)
    side = "above" if judged > c.limit else "below"
    by = f"{_number(abs(slack))} {side} the limit {c.limit:g}" if slack else f"at the limit {c.limit:g}"
    evidence = {
        "figure": figure, "limit": c.limit, "operator": c.operator, "judged": judged, "short_by": max(0.0, -slack),
    }  # fmt: skip
    change = f"{c.metric} {_failing(c) if passed else c.operator} {c.limit:g}"
    return GateResult(c.metric, passed, f"{c.metric} {_number(figure)}{said} is {by}", evidence, change)


def _relative(c: Condition, figure: float, evaluation: Evaluation) -> GateResult:
    if not evaluation.champion:
        reason = f"{c.metric} {_number(figure)}: passes, as there is no champion to compare with"
        return GateResult(c.metric, True, reason, {"figure": figure, "champion": None}, "a champion")
    bound = evaluation.bounds.get(c.metric)
    if bound is None or bound.champion is None:
        reason = f"{c.metric}: {evaluation.champion} has no such figure to compare with"
        return GateResult(c.metric, False, reason, would_change="a champion that was evaluated by the same app")
    passed, slack = _holds(c, bound.bound, c.margin)
    confidence = c.confidence or CONFIDENCE
    rows = f"{'the same ' if bound.paired else ''}{bound.rows:,} rows"
    reason = (
        f"{c.metric} {_number(figure)} against {_number(bound.champion)} of {evaluation.champion}: the difference is "
        f"{_least(c)} {bound.bound:+.4g} at {confidence:.0%} ({rows}), "
        f"{_number(abs(slack))} {'within' if passed else 'beyond'} the margin {c.margin:+g}"
    )
    evidence = {
        "figure": figure, "champion": bound.champion, "margin": c.margin, "operator": c.operator, "bound": bound.bound,
        "confidence": confidence, "rows": bound.rows, "paired": bound.paired, "short_by": max(0.0, -slack),
    }  # fmt: skip
    return GateResult(c.metric, passed, reason, evidence, _relative_change(c, bound, passed))


def _relative_change(c: Condition, bound: Bound, passed: bool) -> str:
    """The bound's distance from the figure shrinks with the square root of the rows."""
    difference = bound.figure - (bound.champion or 0.0)
    if passed:
        return f"a difference whose bound is {_failing(c)} {c.margin:+g}"
    within, room = _holds(c, difference, c.margin)
    if not within or not room:
        return f"a model whose {c.metric} is better by {_number(abs(difference - c.margin))}, and more for certainty"
    rows = bound.rows * ((difference - bound.bound) / room) ** 2
    return f"about {rows:,.0f} test rows with the same difference of {difference:+.4g}, or a better model"


def _servable(replay: Replay) -> GateResult:
    evidence = {"asked": replay.asked, "answered": replay.answered, "short_by": replay.asked - replay.answered}
    reason = f"servable: {replay.answered} of {replay.asked} requests were answered"
    if replay.asked and replay.asked == replay.answered:
        return GateResult("servable", True, reason, evidence, "a request without an answer")
    problem = replay.problem or "nothing was asked"
    return GateResult("servable", False, f"{reason}: {problem}", evidence, "an answer to every request")


def _latency(c: Condition, latencies_ms: Sequence[float]) -> GateResult:
    if c.relative_to_champion:
        reason = f"{c.metric} is measured on the candidate alone and cannot be compared with the champion's"
        return GateResult(c.metric, False, reason, would_change='an absolute limit, such as "<= 80"')
    q, n = LATENCIES[c.metric], len(latencies_ms)
    figure = latencies_ms[min(n - 1, int(q * n))]
    if c.confidence is None:
        return _absolute(c, figure, figure, f" over {n} requests")
    judged = quantile_bound(latencies_ms, q, c.confidence)
    if judged is None:
        reason = f"{c.metric}: {n} requests are too few to bound it at {c.confidence:.0%}"
        return GateResult(c.metric, False, reason, {"figure": figure, "requests": n}, "a lower confidence")
    said = f" over {n} requests, {_least(c)} {_number(judged)} at {c.confidence:.0%}"
    return _absolute(c, figure, judged, said)


def quantile_bound(rising: Sequence[float], q: float, confidence: float) -> float | None:
    """The smallest order statistic that is an upper bound of the `q` quantile at `confidence`, whatever the
    distribution (Hahn and Meeker 1991, section 5.2); None when not even the largest is."""
    from scipy import stats  # 0.7 s that only this bound needs, and every `up` would pay

    n = len(rising)
    rank = int(stats.binom.ppf(confidence, n, q)) + 1
    return rising[rank - 1] if rank <= n else None


def _holds(c: Condition, judged: float, limit: float) -> tuple[bool, float]:
    """Whether the condition holds, and by how much: negative when it is missed."""
    slack = judged - limit if _side(c) == "lower" else limit - judged
    slack = round(slack, 12)  # 0.95 - 0.01 is no reason to refuse 0.94
    return (slack >= 0 if c.operator in (">=", "<=") else slack > 0), slack


def _failing(c: Condition) -> str:
    return {">=": "<", ">": "<=", "<=": ">", "<": ">="}[c.operator]


def _least(c: Condition) -> str:
    return "at least" if _side(c) == "lower" else "at most"


def _number(value: float) -> str:
    return f"{value:.4g}"
