"""What a pipeline shows of its checks and its model."""

import math
import xml.etree.ElementTree as ET

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from platformops.delivery.ci.records import Check
from platformops.delivery.ci.reports import badge, junit, marker, open_metrics, table
from platformops.delivery.ci.smoke import Answer, judged_answers, quantile, warm_up_requests
from platformops.spec.types import SloSpec

CHECKS = (Check("accuracy", True, "0.98 is above 0.95", 1.5), Check("p99_ms", False, "310 & <more> than \x1b[31m250"))


def test_junit_has_a_case_for_each_check_and_bears_every_character():
    suite = ET.fromstring(junit("gates", CHECKS)).find("testsuite")
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    assert [case.get("name") for case in suite] == ["accuracy", "p99_ms"]
    assert suite[1].find("failure").get("message") == "310 & <more> than ?[31m250"


def test_metrics_are_open_metrics_that_prometheus_reads():
    text = open_metrics("digits", {"accuracy": 0.98, "per_class": {"a": 1}, "rows": 261, "good": True, "p99.ms": 2.5})
    families = list(text_string_to_metric_families(text))
    assert [(f.name, f.samples[0].value) for f in families] == [
        ("platformops_accuracy", 0.98), ("platformops_p99_ms", 2.5), ("platformops_rows", 261.0),
    ]  # fmt: skip


def test_the_table_names_the_model_its_figures_its_refusal_and_its_code():
    text = table("digits", "digits:v2", {"accuracy": 0.98}, CHECKS, code="abc on main")
    assert text.startswith(marker("digits"))
    assert "### digits:v2: refused by p99_ms" in text
    assert "| 0.9800 |" in text
    assert "| p99_ms | **refused** | 310 &amp; &lt;more>" in text
    assert "Code abc on main." in text


def test_a_badge_is_a_picture_that_says_the_same_in_words():
    root = ET.fromstring(badge("digits", "accuracy <1", is_good=False))
    assert root.get("aria-label") == "digits: accuracy <1"


def answers(count, status=200, seconds=0.01, version="digits:v1"):
    return [Answer(status, seconds, version if status == 200 else "")] * count


def failed(given, **slo):
    return [c.name for c in judged_answers(given, SloSpec(**slo), version="digits:v1") if not c.passed]


def test_good_answers_of_the_right_version_pass():
    assert failed(answers(200)) == []


@pytest.mark.parametrize(
    ("given", "missed"),
    [
        (answers(199) + answers(1, 503), ["errors"]),
        (answers(197) + answers(3, seconds=0.3), ["p99_ms"]),
        (answers(199) + answers(1, version="digits:v0"), ["version"]),
        (answers(10, 0), ["errors", "p99_ms", "version"]),
        ([], ["errors", "p99_ms", "version"]),
    ],
    ids=["errors", "slow", "another-version", "nobody", "nothing-asked"],
)
def test_what_misses_the_objective_is_named(given, missed):
    assert failed(given) == missed


def test_the_latency_of_the_first_requests_to_a_cold_replica_is_not_judged_but_their_errors_are():
    cold, slo = answers(10, seconds=3.0), SloSpec(p99_ms=100)
    passed = [c.passed for c in judged_answers(cold + answers(50), slo, version="digits:v1", warm_up=10)]
    assert passed == [True, True, True]
    checks = judged_answers(answers(1, 503) + cold + answers(50), slo, version="digits:v1", warm_up=11)
    assert [c.name for c in checks if not c.passed] == ["errors"]
    assert [c.passed for c in judged_answers(cold + answers(50), slo, version="digits:v1")] == [True, False, True]


@pytest.mark.parametrize(("slow", "missed"), [(0, []), (1, []), (2, ["p99_ms"]), (50, ["p99_ms"])])
def test_one_slow_answer_of_a_short_burst_is_no_percentile_but_two_are(slow, missed):
    assert failed(answers(50 - slow) + answers(slow, seconds=3.0)) == missed


def test_every_replica_that_may_be_there_is_warmed():
    assert warm_up_requests(1, 2) < warm_up_requests(4, 2)
    assert warm_up_requests(1, 2) >= 2, "even one replica is asked by several at once"


def test_failures_are_counted_by_status():
    check = judged_answers(answers(8) + answers(1, 503) + answers(1, 0), SloSpec(), version="digits:v1")[0]
    assert check.reason == "2 of 10 requests failed (1 with no answer, 1 with 503), allowed 0.10%"


def test_the_quantile_is_the_smallest_value_that_the_share_does_not_exceed():
    assert [quantile(list(range(1, 101)), q) for q in (0.5, 0.99, 1.0)] == [50, 99, 100]
    assert quantile([], 0.99) == math.inf
