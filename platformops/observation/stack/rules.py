"""Recording and alert rules, with a unit test each; nothing that Prometheus 2.42 does not know, as 3.x knows it too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from platformops.observation import metrics
from platformops.store.records import Json, JsonObject

WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
RUNBOOKS = "README.md#alerts"
RISK = 0.5
OLD_BACKUP_S = 2 * 86_400
SERIES_S = 60
"""Between the samples of a rule's test."""


@dataclass(frozen=True, slots=True)
class Burn:
    """The error budget is spent `factor` times too fast over both windows: the long one for weight, the short one so
    that the alert ends soon after the trouble (The Site Reliability Workbook, 2018, chapter 5)."""

    name: str
    factor: float
    long: str
    short: str
    severity: str


BURNS = (
    Burn("PlatformOpsErrorBudgetGoneInDays", 14.4, "1h", "5m", "page"),
    Burn("PlatformOpsErrorBudgetGoneInAWeek", 6.0, "6h", "30m", "page"),
    Burn("PlatformOpsErrorBudgetSpentEarly", 3.0, "1d", "2h", "ticket"),
)


@dataclass(frozen=True, slots=True)
class Alert:
    name: str
    expr: str
    for_: str
    severity: str
    summary: str
    """`{{ $labels.x }}` is filled in by Prometheus."""
    command: str
    """What to type next."""
    series: Mapping[str, str]
    """Of its test: series -> values, in promtool's notation, one a minute."""
    at: str
    """When the test looks."""
    labels: Mapping[str, str]
    """That the alert then carries, beside its severity."""

    @property
    def annotations(self) -> Mapping[str, str]:
        return {
            "summary": self.summary,
            "description": f"{self.summary} Next: {self.command}",
            "runbook_url": RUNBOOKS,
        }


def recording_rules() -> list[JsonObject]:
    """Error ratios by system over every window, tail latency, calls by stage, and the promised limits."""
    requests = metrics.REQUESTS.exported[0]
    rules: list[JsonObject] = [
        {
            "record": f"system:platformops_error:ratio_rate{window}",
            "expr": f'sum by (system) (rate({requests}{{system!="-",status=~"5.."}}[{window}]))'
            f' / sum by (system) (rate({requests}{{system!="-"}}[{window}]))',
        }
        for window in WINDOWS
    ]
    # Without one failure so far there is no series of failures, and a division by it says nothing rather than nought.
    rules += [
        {
            "record": "system:platformops_request_seconds:p99_5m",
            "expr": "histogram_quantile(0.99, sum by (system, le) "
            f"(rate({metrics.REQUEST_SECONDS.full_name}_bucket[5m])))",
        },
        {
            "record": "system:platformops_requests:rate5m",
            "expr": f'sum by (system) (rate({requests}{{system!="-"}}[5m]))',
        },
        {
            "record": "revision_stage:platformops_stage_seconds:mean5m",
            "expr": f"sum by (revision, stage) (rate({metrics.STAGE_SECONDS.exported[0]}[5m]))"
            f" / ignoring (stage) group_left sum by (revision) (rate({metrics.CALL_ITEMS.exported[0]}[5m]))",
        },
        {
            "record": "system:platformops_slo_error:ratio",
            "expr": f"max by (system) ({metrics.SLO_ERROR_RATIO.full_name})",
        },
        {
            "record": "system:platformops_slo_p99:seconds",
            "expr": f"max by (system) ({metrics.SLO_P99_SECONDS.full_name})",
        },
    ]
    return rules


def alerts() -> tuple[Alert, ...]:
    """All alerts, the burn rates first."""
    return (*(_burning(burn) for burn in BURNS), *_others())


def _burning(burn: Burn) -> Alert:
    def spent(window: str) -> str:
        return f"system:platformops_error:ratio_rate{window} > {burn.factor:g} * system:platformops_slo_error:ratio"

    requests = metrics.REQUESTS.exported[0]
    return Alert(
        burn.name,
        f"({spent(burn.long)}) and ({spent(burn.short)})",
        "0s",
        burn.severity,
        f"{{{{ $labels.system }}}} spends its error budget {burn.factor:g} times too fast over {burn.long}.",
        "platformops why {{ $labels.system }}",
        {
            f'{requests}{{system="digits",revision="digits-r1",status="200"}}': "0+50x200",
            f'{requests}{{system="digits",revision="digits-r1",status="503"}}': "0+50x200",
            f'{metrics.SLO_ERROR_RATIO.full_name}{{system="digits"}}': "0.001x200",
        },
        "150m",
        {"system": "digits"},
    )


def _others() -> tuple[Alert, ...]:
    bucket = f"{metrics.REQUEST_SECONDS.full_name}_bucket"
    return (
        Alert(
            "PlatformOpsSlow",
            "system:platformops_request_seconds:p99_5m > system:platformops_slo_p99:seconds",
            "5m",
            "page",
            "The p99 of {{ $labels.system }} is above its limit.",
            "platformops perf {{ $labels.system }}",
            {
                f'{bucket}{{system="digits",revision="digits-r1",le="0.1"}}': "0x30",
                f'{bucket}{{system="digits",revision="digits-r1",le="1"}}': "0+60x30",
                f'{bucket}{{system="digits",revision="digits-r1",le="+Inf"}}': "0+60x30",
                f'{metrics.SLO_P99_SECONDS.full_name}{{system="digits"}}': "0.08x30",
            },
            "20m",
            {"system": "digits"},
        ),
        Alert(
            "PlatformOpsGatewayDown",
            'up{job="platformops"} == 0',
            "1m",
            "page",
            "The gateway at {{ $labels.instance }} cannot be scraped.",
            "platformops status",
            {'up{job="platformops",instance="a:1"}': "0x10"},
            "5m",
            {"job": "platformops", "instance": "a:1"},
        ),
        _simple(
            "PlatformOpsControllerSilent",
            f"max({metrics.CONTROLLER_AGE.full_name}) > 60",
            "page",
            "No controller was heard for a minute: nothing is released, rolled back or repaired.",
            "platformops status",
            {metrics.CONTROLLER_AGE.full_name: "90x20"},
            {},
        ),
        _simple(
            "PlatformOpsControllerFails",
            f"max({metrics.CONTROLLER_PROBLEMS.full_name}) > 0",
            "ticket",
            "The controller cannot carry out what it decided.",
            "platformops status",
            {metrics.CONTROLLER_PROBLEMS.full_name: "2x20"},
            {},
        ),
        _simple(
            "PlatformOpsStoreAway",
            f"min({metrics.STORE_UP.full_name}) == 0",
            "page",
            "The store cannot be read: serving goes on, and nothing else does.",
            "platformops status",
            {metrics.STORE_UP.full_name: "0x20"},
            {},
        ),
        _simple(
            "PlatformOpsBackupOld",
            f"max({metrics.BACKUP_AGE.full_name}) > {OLD_BACKUP_S}",
            "ticket",
            "The newest certified backup of the store is older than two days.",
            "platformops backup FOLDER",
            {metrics.BACKUP_AGE.full_name: "0 0 0 200000x20"},
            {},
        ),
        _simple(
            "PlatformOpsRunStuck",
            f"max by (system) ({metrics.RUN_HEARTBEAT_AGE.full_name}) > 120",
            "ticket",
            "A run of {{ $labels.system }} has not been heard for two minutes.",
            "platformops logs",
            {f'{metrics.RUN_HEARTBEAT_AGE.full_name}{{system="digits"}}': "600x20"},
            {"system": "digits"},
        ),
        _simple(
            "PlatformOpsNodeDead",
            f'max by (state) ({metrics.NODES.full_name}{{state="dead"}}) > 0',
            "ticket",
            "A machine of the cluster is dead.",
            "platformops status",
            {f'{metrics.NODES.full_name}{{state="dead"}}': "1x20"},
            {"state": "dead"},
        ),
        _simple(
            "PlatformOpsNodeAtRisk",
            f"max by (node) ({metrics.NODE_RISK.full_name}) > {RISK:g}",
            "ticket",
            "Machine {{ $labels.node }} is more likely to fail within its horizon than not.",
            "platformops why node {{ $labels.node }}",
            {f'{metrics.NODE_RISK.full_name}{{node="4f2a"}}': "0.8x20"},
            {"node": "4f2a"},
        ),
        _simple(
            "PlatformOpsDrift",
            f"max by (system) ({metrics.DRIFT_CONFIRMED.full_name}) > 0",
            "ticket",
            "What {{ $labels.system }} sees has changed since it was trained.",
            "platformops drift {{ $labels.system }}",
            {f'{metrics.DRIFT_CONFIRMED.full_name}{{system="digits"}}': "1x20"},
            {"system": "digits"},
        ),
        _simple(
            "PlatformOpsReleaseHalted",
            f'max by (system) ({metrics.ROLLOUT.full_name}{{state=~"paused|halted"}}) > 0',
            "ticket",
            "A release of {{ $labels.system }} waits for a person.",
            "platformops why {{ $labels.system }}",
            {f'{metrics.ROLLOUT.full_name}{{system="digits",state="paused"}}': "1x20"},
            {"system": "digits"},
        ),
    )


def _simple(
    name: str,
    expr: str,
    severity: str,
    summary: str,
    command: str,
    series: Mapping[str, str],
    labels: Mapping[str, str],
) -> Alert:
    return Alert(name, expr, "2m", severity, summary, command, series, "10m", labels)


def rules_document(chosen: Sequence[Alert] | None = None) -> JsonObject:
    """The content of `rules.yml`."""
    written: list[Json] = [
        {
            "alert": alert.name,
            "expr": alert.expr,
            "for": alert.for_,
            "labels": {"severity": alert.severity},
            "annotations": dict(alert.annotations),
        }
        for alert in (alerts() if chosen is None else chosen)
    ]
    return {
        "groups": [
            {"name": "platformops-recording", "rules": list(recording_rules())},
            {"name": "platformops-alerts", "rules": written},
        ]
    }


def tests_document() -> JsonObject:
    """The content of `rules_test.yml`, for `promtool test rules`: each alert fires on its series, and not at first."""
    return {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": [_test(alert) for alert in alerts()]}


def _test(alert: Alert) -> JsonObject:
    def filled(text: str) -> str:
        for name, value in alert.labels.items():
            text = text.replace(f"{{{{ $labels.{name} }}}}", value)
        return text

    fired: JsonObject = {
        "exp_labels": {"severity": alert.severity, **alert.labels},
        "exp_annotations": {name: filled(text) for name, text in alert.annotations.items()},
    }
    return {
        "name": alert.name,
        "interval": f"{SERIES_S}s",
        "input_series": [{"series": name, "values": values} for name, values in alert.series.items()],
        "alert_rule_test": [
            {"eval_time": "0m", "alertname": alert.name, "exp_alerts": []},
            {"eval_time": alert.at, "alertname": alert.name, "exp_alerts": [fired]},
        ],
    }
