"""The list of metrics: one name, one meaning; bounded series; and what the store says of the platform."""

import re
from dataclasses import dataclass

import pytest
from prometheus_client.parser import text_string_to_metric_families

from platformops.gateway.exchange import Exchange
from platformops.gateway.metrics import GatewayMetrics
from platformops.observation import metrics
from platformops.observation.metrics import MetricKind, Reading
from platformops.observation.platform_state import readings
from platformops.store.memory import MemoryStore
from platformops.store.records import Put


@dataclass(frozen=True)
class Lane:
    revision: str = "digits-r1"
    queued: int = 3
    in_flight: int = 2


def exported(gateway, *lanes):
    text = gateway.text(lanes).decode()
    return {s.name: s for f in text_string_to_metric_families(text) for s in f.samples}, text


def test_every_metric_has_a_name_of_its_own_a_unit_and_a_meaning():
    names = [name for metric in metrics.ALL for name in metric.exported]
    assert len(names) == len(set(names))
    for metric in metrics.ALL:
        assert re.fullmatch(r"[a-z][a-z0-9_]*[a-z0-9]", metric.name)
        assert not metric.name.endswith("_total"), "Prometheus adds it, and twice would be two metrics in one"
        assert metric.unit
        assert metric.meaning.endswith(".")
        if metric.unit in ("seconds", "bytes"):
            assert metric.unit in metric.name
        assert bool(metric.buckets) is (metric.kind is MetricKind.HISTOGRAM)


def test_the_gateway_exports_everything_that_is_listed():
    gateway = GatewayMetrics()
    gateway.answered(Exchange("id", 0.0, "POST", "/", "c", system="digits", revision="digits-r1", status=200, items=1))
    gateway.answered(Exchange("id", 0.0, "POST", "/", "c", system="digits", status=503, code="overloaded"))
    gateway.called("digits-r1", "n1", items=4, seconds=0.01, stages_s=(0.001, 0.002, 0.003), cpu_s=0.005)
    gateway.tell([Reading(m, 1.0, tuple("x" for _ in m.labels)) for m in metrics.READ])
    found, _ = exported(gateway, Lane())
    wanted = {name for metric in metrics.ALL for name in metric.exported}
    assert wanted <= set(found)
    assert found["platformops_call_items_total"].value == 4.0
    assert found["platformops_items_queued"].value == 3.0


def test_stages_of_calls_are_told_apart():
    gateway = GatewayMetrics()
    gateway.called("digits-r1", "n1", items=1, seconds=0.01, stages_s=(0.001, 0.002, 0.003), cpu_s=0.0)
    _, text = exported(gateway)
    assert 'stage_seconds_total{node="n1",revision="digits-r1",stage="transform"} 0.002' in text


def test_what_was_told_before_is_gone():
    gateway = GatewayMetrics()
    gateway.tell([Reading(metrics.ROLLOUT, 1.0, ("digits", "canary"))])
    gateway.tell([Reading(metrics.ROLLOUT, 1.0, ("digits", "promoted"))])
    _, text = exported(gateway)
    assert 'state="promoted"' in text
    assert 'state="canary"' not in text


def test_series_are_bounded_however_many_revisions_come():
    gateway = GatewayMetrics()
    for i in range(metrics.MOST_SERIES + 500):
        gateway.answered(Exchange("id", 0.0, "POST", "/", "c", system="s", revision=f"s-r{i}", status=200, items=1))
        gateway.called(f"s-r{i}", "n", items=1, seconds=0.0, stages_s=(0.0, 0.0, 0.0), cpu_s=0.0)
    gateway.tell([Reading(metrics.SYSTEM_UP, 1.0, (str(i),)) for i in range(metrics.MOST_SERIES + 500)])
    _, text = exported(gateway)
    lines = text.splitlines()
    for name in ("platformops_requests_total", "platformops_calls_total", "platformops_system_up"):
        assert sum(line.startswith(name + "{") for line in lines) <= metrics.MOST_SERIES + 1
    assert 'platformops_requests_total{revision="(other)",status="200",system="(other)"} 500.0' in text


def test_what_the_store_says_becomes_gauges():
    store = MemoryStore()
    store.commit(
        [
            Put("system/digits", {
                "wanted": "up", "stable": {"model": "digits", "version": 3, "number": 5},
                "route": {"weights": {"digits-r5": 90.0, "digits-r6": 10.0}}, "serve": {"slo": {"p99_ms": 80.0}},
            }, None),
            Put("rollout/digits/0000000002", {"state": "canary", "step": 1}, None),
            Put("run/a", {"system": "digits", "state": "running", "heartbeat_at": 90.0, "steps": [
                {"name": "train", "seconds": 40.0, "cached": False,
                 "figures": {"loss": 0.25, "step_seconds.rank1": 0.125}},
                {"name": "prepare", "seconds": 9, "cached": True},
            ]}, None),
            Put("version/digits/0000000003", {"metrics": {"accuracy": 0.97, "per_class": {}}}, None),
            Put("quality/digits:v3", {"labelled": 10, "wrong": 1}, None),
            Put("status/controller", {"at": 95.0, "epoch": 4, "problems": ["x"], "nodes": [{"state": "alive"}]}, None),
            Put("status/fleet", {"nodes": [
                {"id": "4f2a" * 14, "state": "suspect", "probability": 0.7, "is_cordoned": True},
                {"id": "9b" * 28, "state": "healthy", "probability": None, "is_cordoned": False},
                {"id": "00" * 28, "state": "unhealthy", "probability": 1.0, "is_drill": True},
            ]}, None),
            Put("drift/digits", {"state": "confirmed"}, None),
            Put("status/drift/digits", {"at": 1.0, "evidence": {"input": 15.0}}, None),
        ]
    )  # fmt: skip
    found = {(r.metric.name, *r.labels): r.value for r in readings(store, now=100.0)}
    assert found["revision_info", "digits", "digits-r5", "digits:v3"] == 1.0
    assert found["route_weight_percent", "digits", "digits-r6"] == 10.0
    assert found["slo_p99_seconds", "digits"] == 0.08
    assert found["slo_error_ratio", "digits"] == pytest.approx(0.001)
    assert found["rollout", "digits", "canary"] == 1.0
    assert found["run_heartbeat_age_seconds", "digits"] == 10.0
    assert found["stage_last_seconds", "digits", "a", "train"] == 40.0
    assert ("stage_last_seconds", "digits", "a", "prepare") not in found
    assert found["stage_figure", "digits", "a", "train", "loss", ""] == 0.25
    assert found["stage_figure", "digits", "a", "train", "step_seconds", "1"] == 0.125
    assert found["model_metric", "digits", "accuracy"] == 0.97
    assert found["wrong", "digits:v3"] == 1.0
    assert found["controller_age_seconds",] == 5.0
    assert found["nodes", "alive"] == 1.0
    assert found["drift_confirmed", "digits"] == 1.0
    risks = {labels[1]: value for labels, value in found.items() if labels[0] == "node_failure_probability"}
    assert risks == {"4f2a4f2a4f2a": 0.7}
    assert found["nodes_by_health", "suspect"] == 1.0
    assert ("nodes_by_health", "unhealthy") not in found, "a drill's machine is broken on purpose"
    assert found["nodes_cordoned",] == 1.0
    assert found["drift_log_evidence", "digits", "input"] == 15.0


def run_of(key, state, *steps, system="digits", heartbeat_at=90.0):
    return Put(key, {"system": system, "state": state, "heartbeat_at": heartbeat_at, "steps": list(steps)}, None)


def step_of(name, *, cached=False, seconds=0.0, **figures):
    return {"name": name, "cached": cached, "seconds": seconds, "figures": figures}


def test_runs_at_the_same_time_are_told_apart_and_one_that_found_all_done_hides_nothing():
    store = MemoryStore()
    store.commit(
        [
            run_of("run/1", "succeeded", step_of("train", seconds=50, loss=1), step_of("search", seconds=7, trials=6)),
            run_of("run/2", "succeeded", step_of("train", seconds=40.0, loss=0.5)),
            run_of("run/3", "running", step_of("train", loss=0.4)),
            run_of("run/4", "running", step_of("train", loss=0.3), heartbeat_at=10.0),
            run_of("run/5", "running", step_of("train", loss=0.2), step_of("evaluate")),
            run_of("run/6", "succeeded", step_of("train", cached=True, seconds=40.0)),
        ]
    )  # fmt: skip
    found = {(r.metric.name, *r.labels): r.value for r in readings(store, now=100.0)}
    losses = {labels[2]: value for labels, value in found.items() if labels[4:5] == ("loss",)}
    assert losses == {"3": 0.4, "5": 0.2}, "the fourth was not heard for long"
    assert found["stage_figure", "digits", "1", "search", "trials", ""] == 6
    assert found["stage_last_seconds", "digits", "1", "search"] == 7
    assert not [labels for labels in found if labels[0] == "stage_last_seconds" and labels[3] == "evaluate"]


def test_series_of_runs_are_bounded_by_the_runs_that_go_on_and_one_a_stage():
    store = MemoryStore()
    store.commit([run_of(f"run/{n:04}", "succeeded", step_of("train", seconds=1.0, loss=n)) for n in range(1000)])
    found = [r for r in readings(store, now=100.0) if r.metric in (metrics.STAGE_FIGURE, metrics.STAGE_LAST_SECONDS)]
    assert [r.labels[1] for r in found] == ["0999", "0999"]


def test_an_empty_store_says_nothing_and_breaks_nothing():
    assert readings(MemoryStore(), now=1.0) == ()
