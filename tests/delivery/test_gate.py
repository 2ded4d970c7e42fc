"""Gates on evidence: the figure, the limit, by how much, and what would change it."""

import numpy as np
import pytest

from platformops.delivery import gate
from platformops.delivery.records import Bound, Evaluation, ParityReport, Replay

FIRST = Evaluation({"accuracy": 0.91, "recall_macro": 0.9})


def against(champion, bound, *, figure=0.9, rows=1500, paired=True):
    return Evaluation(
        {"recall_macro": figure},
        champion="digits:v3",
        champion_metrics={"recall_macro": champion},
        bounds={"recall_macro": Bound(figure, champion, bound, rows, paired)},
    )


def replay(**changed):
    ok = ParityReport(rows=3, largest=1e-6, worst="a")
    given = {"asked": 3, "answered": 3, "latencies_ms": (1.0, 2.0, 30.0), "parity": ok, **changed}
    return Replay(**given)


def test_an_absolute_limit_says_by_how_much_it_was_missed():
    (result,) = gate.judge_offline({"accuracy": ">= 0.95"}, FIRST)
    assert not result.passed
    assert result.reason == "accuracy 0.91 is 0.04 below the limit 0.95"
    assert result.evidence["short_by"] == pytest.approx(0.04)
    assert result.would_change == "accuracy >= 0.95"


@pytest.mark.parametrize(
    ("text", "passed"),
    [(">= 0.91", True), ("> 0.91", False), ("<= 0.91", True), ("< 0.91", False), (">= 0.9", True), ("<= 0.9", False)],
)
def test_each_operator_decides_on_the_limit_itself(text, passed):
    (result,) = gate.judge_offline({"accuracy": text}, FIRST)
    assert result.passed is passed


def test_a_limit_that_only_rounding_misses_is_met():
    (result,) = gate.judge_offline({"x": ">= champion - 0.01"}, Evaluation(
        {"x": 0.94}, "d:v1", {"x": 0.95}, {"x": Bound(0.94, 0.95, 0.94 - 0.95, 10, True)}))  # fmt: skip
    assert result.passed


def test_an_unknown_metric_is_refused_with_the_list_of_those_there_are():
    (result,) = gate.judge_offline({"acuracy": ">= 0.5"}, FIRST)
    assert not result.passed
    for known in ("accuracy", "recall_macro", "p99_ms", "parity"):
        assert known in result.reason


def test_a_relative_gate_passes_the_first_release_and_says_why():
    (result,) = gate.judge_offline({"recall_macro": ">= champion - 0.01 at 95%"}, FIRST)
    assert result.passed
    assert "no champion" in result.reason


def test_a_relative_gate_asks_for_a_one_sided_bound_at_its_confidence():
    gates = {"recall_macro": ">= champion - 0.01 at 90%", "log_loss": "<= champion + 0.1", "accuracy": ">= 0.9 at 99%",
             "brier": "<= 0.3", "p99_ms": "<= 80 at 95%", "parity": "exact"}  # fmt: skip
    wanted = gate.wanted_bounds(gates)
    assert [(w.metric, w.is_relative, w.side, w.confidence) for w in wanted] == [
        ("recall_macro", True, "lower", 0.9),
        ("log_loss", True, "upper", 0.95),
        ("accuracy", False, "lower", 0.99),
    ]


def test_a_relative_gate_that_is_missed_names_champion_bound_rows_and_shortfall():
    (result,) = gate.judge_offline({"recall_macro": ">= champion - 0.01 at 95%"}, against(0.93, -0.034))
    assert not result.passed
    for part in ("0.9 against 0.93 of digits:v3", "-0.034 at 95%", "the same 1,500 rows", "0.024 beyond"):
        assert part in result.reason
    assert result.evidence["short_by"] == pytest.approx(0.024)
    assert "better by 0.02" in result.would_change


def test_a_difference_too_uncertain_for_its_margin_says_how_many_rows_would_settle_it():
    (result,) = gate.judge_offline({"recall_macro": ">= champion - 0.01 at 95%"}, against(0.905, -0.02))
    assert not result.passed
    assert "about 13,500 test rows" in result.would_change  # three times as near needs nine times the rows


def test_a_relative_gate_within_its_margin_passes():
    (result,) = gate.judge_offline({"recall_macro": ">= champion - 0.01 at 95%"}, against(0.9, -0.004))
    assert result.passed
    assert "within the margin -0.01" in result.reason


def test_an_absolute_gate_with_confidence_is_judged_on_its_bound():
    evaluation = Evaluation({"accuracy": 0.96}, bounds={"accuracy": Bound(0.96, None, 0.94, 200, False)})
    (result,) = gate.judge_offline({"accuracy": ">= 0.95 at 95%"}, evaluation)
    assert not result.passed
    assert "at least 0.94 at 95%" in result.reason


def test_a_relative_gate_without_a_bound_is_refused_not_passed():
    evaluation = Evaluation({"recall_macro": 0.9}, champion="digits:v3")
    (result,) = gate.judge_offline({"recall_macro": ">= champion"}, evaluation)
    assert not result.passed


def test_an_unreadable_evaluation_is_refused_with_its_problem():
    (result,) = gate.judge_offline({"accuracy": ">= 0.5"}, Evaluation({}, problem="metrics.json: digest differs"))
    assert not result.passed
    assert result.reason == "metrics.json: digest differs"


def test_the_endpoint_must_answer_everything_before_anything_else_is_asked():
    results = gate.judge_endpoint({"p99_ms": "<= 80"}, replay(answered=2, problem="503 overloaded"), 0.15)
    assert [(r.name, r.passed) for r in results] == [("servable", False)]
    assert "2 of 3" in results[0].reason
    assert "503 overloaded" in results[0].reason


def test_nothing_asked_is_not_servable():
    (result,) = gate.judge_endpoint({}, replay(asked=0, answered=0, latencies_ms=(), parity=None), 0.15)
    assert not result.passed


def test_parity_is_judged_even_when_the_spec_does_not_name_it():
    results = gate.judge_endpoint({}, replay(parity=ParityReport(rows=3, largest=0.2, worst="b")), 0.15)
    assert [(r.name, r.passed) for r in results] == [("servable", True), ("parity", False)]


def test_latency_is_judged_on_what_the_endpoint_did():
    slow, fast = (gate.judge_endpoint({"p99_ms": text}, replay(), 0.15)[-1] for text in ("<= 20", "<= 80"))
    assert not slow.passed
    assert fast.passed
    assert "p99_ms 30 over 3 requests is 10 above the limit 20" in slow.reason


def test_a_latency_bound_needs_enough_requests():
    few = gate.judge_endpoint({"p99_ms": "<= 80 at 95%"}, replay(), 0.15)[-1]
    assert not few.passed
    many = replay(latencies_ms=tuple(float(i) for i in range(1, 301)))
    enough = gate.judge_endpoint({"p99_ms": "<= 400 at 95%"}, many, 0.15)[-1]
    assert enough.passed
    assert enough.evidence["judged"] == 300.0


def test_a_latency_relative_to_the_champion_is_refused_with_what_to_write():
    result = gate.judge_endpoint({"p99_ms": "<= champion + 5"}, replay(), 0.15)[-1]
    assert not result.passed
    assert "absolute" in result.would_change


def test_the_quantile_bound_covers_the_true_quantile_as_often_as_it_says():
    rng, q = np.random.default_rng(0), 0.9
    truth = -np.log(1 - q)
    hits = sum(gate.quantile_bound(np.sort(rng.exponential(size=120)), q, 0.95) >= truth for _ in range(500))
    assert 0.93 <= hits / 500 <= 1.0


def test_classes_that_must_stay_are_compared_with_the_champions():
    def judged(candidate, champion):
        evaluation = Evaluation({}, "digits:v1", {}, {}, classes=candidate, champion_classes=champion)
        return gate.judge_offline({"classes": "stable"}, evaluation)[0]

    assert judged(("a", "b"), ("b", "a")).passed
    refused = judged(("a", "c"), ("a", "b"))
    assert not refused.passed
    assert "new: c; lost: b" in refused.reason
    assert gate.judge_offline({"classes": "stable"}, Evaluation({}, classes=("a",)))[0].passed
