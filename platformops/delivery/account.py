"""The account of a release for people: each guard with its figure, its bound, its margin and the evidence of harm."""

from __future__ import annotations

import math
from collections.abc import Mapping

from platformops.delivery.evidence import Tally, latency_ms, quantile, slower_than
from platformops.delivery.ledger import QUANTILES, Ledger
from platformops.delivery.records import GateResult
from platformops.delivery.sequential import lower_bound, mean_upper_bound, quantile_bounds, upper_bound
from platformops.delivery.terms import Terms
from platformops.delivery.verdict import WEIGHTS, Finding, Judgement, disagreement_limit
from platformops.store.records import JsonObject


def guard_results(ledger: Ledger, judgement: Judgement, terms: Terms, expected: float | None) -> tuple[GateResult, ...]:
    """One line a guard for the record of a decision: harm seen, its bound, and what would have changed the verdict."""
    candidate, stable = ledger.of(ledger.candidate), ledger.of(ledger.stable)
    said: Mapping[str, tuple[str, JsonObject]] = {
        "errors": _errors_said(candidate, stable, terms),
        **{guard: _latency_said(guard, candidate, stable, terms) for guard in QUANTILES},
        "slo": _slo_said(candidate, stable, terms),
        "disagreement": _disagreement_said(candidate, terms, expected),
        "quality": _quality_said(candidate, stable, terms),
        "memory": _memory_said(candidate),
    }
    is_harmful = judgement.finding is Finding.HARMFUL
    return tuple(
        _result(name, *said[name], judgement, terms, is_guilty=is_harmful and name == judgement.leading)
        for name in WEIGHTS
    )


def _result(
    name: str, said: str, figures: JsonObject, judgement: Judgement, terms: Terms, *, is_guilty: bool
) -> GateResult:
    against = judgement.guards[name]
    needed = 1 / (WEIGHTS[name] * terms.false_alarm_ratio)
    evidence_json: JsonObject = {**figures, "e_value": _finite(against), "e_value_alarm": round(needed, 1)}
    if name in judgement.proven:
        evidence_json = {**evidence_json, "proven": judgement.proven[name]}
    odds = f"evidence {_odds(against)} to 1 of the {needed:.0f} to 1 that are an alarm by itself"
    change = f"evidence of harm in {name} below {needed:.0f} to 1" if is_guilty else ""
    return GateResult(name, not is_guilty, f"{said}; {odds}", evidence_json, change)


def _finite(log: float) -> float:
    return round(math.exp(min(log, 300.0)), 6)


def _odds(log: float) -> str:
    return f"{math.exp(log):,.3g}" if log < math.log(1e6) else f"10^{log / math.log(10):.0f}"


def _share(failures: int, trials: int) -> str:
    return f"{failures:,} of {trials:,}" + (f" ({failures / trials:.2%})" if trials else "")


def _errors_said(candidate: Tally, stable: Tally, terms: Terms) -> tuple[str, JsonObject]:
    bound = upper_bound(candidate.failures, candidate.trials, terms.missed_ratio / 2) - (
        lower_bound(stable.failures, stable.trials, terms.missed_ratio / 2) if stable.failures else 0.0
    )
    figures: JsonObject = {
        "candidate": [candidate.failures, candidate.trials],
        "stable": [stable.failures, stable.trials],
        "bound": round(bound, 6),
        "margin": terms.errors_margin,
    }
    seen = f"{_share(candidate.failures, candidate.trials)} failed, of stable {_share(stable.failures, stable.trials)}"
    return f"{seen}; at most {100 * bound:.2f} points more, margin {100 * terms.errors_margin:g}", figures


def _latency_said(guard: str, candidate: Tally, stable: Tally, terms: Terms) -> tuple[str, JsonObject]:
    q = QUANTILES[guard]
    own, other = quantile(candidate.latencies, q), quantile(stable.latencies, q)
    if own is None or other is None:
        return "nothing to compare yet", {}
    low, high = _difference_ms(candidate, stable, q, terms.missed_ratio)
    figures: JsonObject = {
        "candidate_ms": round(latency_ms(own), 3), "stable_ms": round(latency_ms(other), 3), "quantile": q,
        "difference_ms_low": low, "difference_ms_high": high,
    }  # fmt: skip
    ratio = latency_ms(own) / latency_ms(other) - 1
    between = f"; {low:+.3g} to {high:+.3g} ms" if low is not None and high is not None else ""
    seen = (
        f"{latency_ms(own):.3g} ms against {latency_ms(other):.3g} ms at the {q:.0%} quantile ({ratio:+.0%}{between})"
    )
    if guard != "latency":
        return seen, figures
    return f"{seen}, margin +{terms.latency_margin:.0%}", {**figures, "margin": terms.latency_margin}


def _difference_ms(candidate: Tally, stable: Tally, q: float, alpha: float) -> tuple[float | None, float | None]:
    """Bounds of the difference of two quantiles at all times together: from those of each at half the error."""
    own = quantile_bounds(candidate.latencies, q, alpha / 2)
    other = quantile_bounds(stable.latencies, q, alpha / 2)
    low = latency_ms(own[0] - 1) - latency_ms(other[1]) if own[0] is not None and other[1] is not None else None
    high = latency_ms(own[1]) - latency_ms(other[0] - 1) if own[1] is not None and other[0] is not None else None
    return (round(low, 3) if low is not None else None), (round(high, 3) if high is not None else None)


def _slo_said(candidate: Tally, stable: Tally, terms: Terms) -> tuple[str, JsonObject]:
    slo = terms.tolerances.slo_bucket
    own, calls = slower_than(candidate.latencies, slo), sum(candidate.latencies.values())
    other, other_calls = slower_than(stable.latencies, slo), sum(stable.latencies.values())
    figures: JsonObject = {"candidate": [own, calls], "stable": [other, other_calls], "slo_ms": terms.slo_ms}
    return f"{_share(own, calls)} took longer than {terms.slo_ms:g} ms, of stable {_share(other, other_calls)}", figures


def _disagreement_said(candidate: Tally, terms: Terms, expected: float | None) -> tuple[str, JsonObject]:
    limit = disagreement_limit(terms, expected)
    seen = f"{_share(candidate.disagreements, candidate.compared)} answered otherwise than stable"
    if limit is None:
        return f"{seen}; nothing says how many to expect", {}
    bound = upper_bound(candidate.disagreements, candidate.compared, terms.missed_ratio)
    figures: JsonObject = {
        "candidate": [candidate.disagreements, candidate.compared], "bound": round(bound, 6), "margin": limit,
    }  # fmt: skip
    return f"{seen}; at most {bound:.2%}, limit {limit:.2%}", figures


def _quality_said(candidate: Tally, stable: Tally, terms: Terms) -> tuple[str, JsonObject]:
    if not candidate.pairs:
        seen = f"wrong {_share(candidate.wrong, candidate.labelled)}, stable {_share(stable.wrong, stable.labelled)}"
        return (seen if candidate.labelled else "no labels yet"), {}
    worse, better = candidate.only_own_wrong, candidate.only_other_wrong
    bound = mean_upper_bound(better, candidate.pairs - worse - better, worse, terms.missed_ratio)
    figures: JsonObject = {
        "pairs": candidate.pairs, "only_candidate_wrong": worse, "only_stable_wrong": better, "bound": round(bound, 6),
        "margin": terms.quality_margin,
    }  # fmt: skip
    return f"of {candidate.pairs:,} labelled inputs {worse} only it got wrong and {better} only stable", figures


def _memory_said(candidate: Tally) -> tuple[str, JsonObject]:
    if not candidate.memory:
        return "no sample yet", {}
    worst = max(candidate.memory.values(), key=lambda m: m.log_e)
    figures: JsonObject = {"samples": worst.samples, "bytes": worst.bytes, "growth_ratio": round(worst.growth_ratio, 4)}
    mib = worst.bytes / 2**20
    return f"{mib:,.0f} MiB, {worst.growth_ratio:+.1%} since it settled ({worst.samples} samples)", figures
