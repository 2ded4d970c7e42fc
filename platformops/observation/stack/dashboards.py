"""Grafana dashboards as data, and the rules that they keep: for a folder "PlatformOps" beside Ray's own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from platformops.observation import metrics
from platformops.store.records import Json, JsonObject

FOLDER = "PlatformOps"
SCHEMA_VERSION = 39
UNITS = frozenset({"s", "bytes", "percentunit", "percent", "reqps", "short", "none", "bool"})
VARIABLE = '{system=~"$system"}'
RATE = "$__rate_interval"
WIDTH, HEIGHT = 12, 8


@dataclass(frozen=True, slots=True)
class Panel:
    title: str
    description: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    """Expression and legend."""
    kind: str = "timeseries"


def dashboards() -> dict[str, JsonObject]:
    """File name -> dashboard."""
    return {
        "platformops-serving.json": _dashboard("platformops-serving", "PlatformOps serving", _serving()),
        "platformops-releases.json": _dashboard("platformops-releases", "PlatformOps releases and drift", _releases()),
        "platformops-platform.json": _dashboard("platformops-platform", "PlatformOps pipeline and control", _control()),
    }


def provider_document(folder: str) -> JsonObject:
    """The content of `provisioning/dashboards/platformops.yml`."""
    return {
        "apiVersion": 1,
        "providers": [
            {"name": "platformops", "folder": FOLDER, "type": "file", "allowUiUpdates": False,
             "options": {"path": folder}},
        ],
    }  # fmt: skip


def source_document(url: str) -> JsonObject:
    """The content of `provisioning/datasources/platformops.yml`."""
    source: JsonObject = {"name": "PlatformOps", "type": "prometheus", "access": "proxy", "url": url}
    return {"apiVersion": 1, "datasources": [source]}


def queries(dashboard: JsonObject) -> Iterator[str]:
    """Every PromQL expression in it."""
    for panel in _objects(dashboard.get("panels")):
        for target in _objects(panel.get("targets")):
            yield str(target["expr"])


def problems(dashboard: JsonObject) -> list[str]:
    """What breaks the rules of the house: titles, units, the data source, names of metrics, intervals of rates."""
    known = {name for metric in metrics.ALL for name in metric.exported}
    found = [] if dashboard.get("editable") is False else ["it can be edited in place, and would then differ from here"]
    for panel in _objects(dashboard.get("panels")):
        title = str(panel.get("title"))
        if not panel.get("description"):
            found.append(f"{title}: has no description")
        if panel.get("datasource") != SOURCE:
            found.append(f"{title}: does not use the data source that is chosen above")
        unit = _object(_object(panel, "fieldConfig"), "defaults").get("unit")
        if unit not in UNITS:
            found.append(f"{title}: unit {unit!r} is none of {sorted(UNITS)}")
        for target in _objects(panel.get("targets")):
            found += [f"{title}: {p}" for p in _problems_of(str(target["expr"]), known)]
    return found


SOURCE: JsonObject = {"type": "prometheus", "uid": "${datasource}"}


def _problems_of(expr: str, known: set[str]) -> Iterator[str]:
    for name in re.findall(r"\bplatformops_\w+", re.sub(r"\w+:platformops_[\w:]+", "", expr)):
        if name not in known:
            yield f"there is no metric {name}"
    for window in re.findall(r"rate\([^\[]*\[([^\]]+)\]", expr):
        if window != RATE:
            yield f"rate over {window}, not {RATE}"


def _serving() -> tuple[Panel, ...]:
    requests, seconds = metrics.REQUESTS.exported[0], metrics.REQUEST_SECONDS.full_name
    stage, items = metrics.STAGE_SECONDS.exported[0], metrics.CALL_ITEMS.exported[0]
    calls, call_s = metrics.CALLS.exported[0], metrics.CALL_SECONDS.exported[0]
    where = VARIABLE
    quantile = f"sum by (system, le) (rate({seconds}_bucket{where}[{RATE}]))"
    return (
        Panel("Requests", "Requests answered, by system and status.", "reqps",
              ((f"sum by (system, status) (rate({requests}{where}[{RATE}]))", "{{system}} {{status}}"),)),
        Panel("Error ratio", "Share of requests that failed on our side, and what is promised.", "percentunit",
              (("system:platformops_error:ratio_rate5m" + where, "{{system}}"),
               ("system:platformops_slo_error:ratio" + where, "{{system}} promised"))),
        Panel("Response time", "Quantiles from the head of a request to its answer.", "s",
              ((f"histogram_quantile(0.5, {quantile})", "{{system}} p50"),
               (f"histogram_quantile(0.99, {quantile})", "{{system}} p99"),
               ("system:platformops_slo_p99:seconds" + where, "{{system}} promised"))),
        Panel("Time an item by stage", "Where replicas spend their time: decode, transform, model.", "s",
              ((f"sum by (revision, stage) (rate({stage}[{RATE}])) / ignoring (stage) group_left "
                f"sum by (revision) (rate({items}[{RATE}]))", "{{revision}} {{stage}}"),)),
        Panel("Items a call", "How many items travel together to a replica.", "short",
              ((f"sum by (revision) (rate({items}[{RATE}])) / sum by (revision) (rate({calls}[{RATE}]))",
                "{{revision}}"),)),
        Panel("Call time by node", "A node whose calls take longer than its peers' is sick or shared.", "s",
              ((f"sum by (node) (rate({call_s}[{RATE}])) / sum by (node) (rate({calls}[{RATE}]))", "{{node}}"),)),
        Panel("Waiting and in flight", "Items that wait for a call, and those on their way.", "short",
              ((metrics.QUEUED.full_name, "{{revision}} waiting"),
               (metrics.IN_FLIGHT.full_name, "{{revision}} in flight"))),
        Panel("Refused", "Requests without a prediction, by reason.", "reqps",
              ((f"sum by (system, code) (rate({metrics.REFUSED.exported[0]}{where}[{RATE}]))",
                "{{system}} {{code}}"),)),
    )  # fmt: skip


def _releases() -> tuple[Panel, ...]:
    where = VARIABLE
    requests = metrics.REQUESTS.exported[0]
    return (
        Panel("Traffic by revision", "Share that the route gives to each revision.", "percent",
              ((metrics.ROUTE_WEIGHT.full_name + where, "{{system}} {{revision}}"),)),
        Panel("Versions", "Which version a revision serves.", "none",
              ((metrics.REVISION_INFO.full_name + where, "{{system}} {{revision}} {{version}}"),)),
        Panel("State of the newest release", "1 for the state that it is in.", "none",
              ((metrics.ROLLOUT.full_name + where, "{{system}} {{state}}"),)),
        Panel("Errors by revision", "Failed requests of each revision: the canary beside stable.", "reqps",
              ((f'sum by (revision) (rate({requests}{{system=~"$system",status=~"5.."}}[{RATE}]))',
                "{{revision}}"),)),
        Panel("Evidence of drift", "Strongest evidence of each kind, in nats; confirmed at 13.8.", "short",
              ((metrics.DRIFT_EVIDENCE.full_name + where, "{{system}} {{kind}}"),)),
        Panel("Wrong answers", "Of predictions whose truth came back.", "percentunit",
              ((f"{metrics.WRONG.full_name} / {metrics.LABELLED.full_name}", "{{version}}"),)),
    )  # fmt: skip


def _figure(name: str) -> str:
    return f'{metrics.STAGE_FIGURE.full_name}{{system=~"$system",figure="{name}"}}'


def _control() -> tuple[Panel, ...]:
    return (
        Panel("Runs", "The newest runs by state.", "short",
              ((metrics.RUNS.full_name + VARIABLE, "{{system}} {{state}}"),)),
        Panel("Time of stages", "How long each stage took in the newest run that carried it out.", "s",
              ((metrics.STAGE_LAST_SECONDS.full_name + VARIABLE, "{{system}} {{stage}}"),)),
        Panel("Loss", "Of each training that goes on, and of the newest one when it ended.", "short",
              ((_figure("loss"), "{{system}} {{stage}} {{run}}"),)),
        Panel("Training rate", "Rows that a training takes a second.", "short",
              ((_figure("images_per_second"), "{{system}} {{stage}} {{run}}"),)),
        Panel("Step time by rank", "A rank that is slower than the others holds them all up.", "s",
              ((_figure("step_seconds"), "{{system}} rank {{rank}} {{run}}"),)),
        Panel("Search", "Trials of a search that have ended.", "short",
              ((_figure("trials"), "{{system}} {{run}}"),)),
        Panel("Newest models", "What evaluation found of the newest version of each model.", "short",
              ((metrics.MODEL_METRIC.full_name, "{{model}} {{metric}}"),)),
        Panel("Controller", "Seconds since the controller was heard.", "s",
              ((metrics.CONTROLLER_AGE.full_name, "age"),)),
        Panel("Store", "1 while the store can be read.", "bool", ((metrics.STORE_UP.full_name, "up"),)),
        Panel("Backup", "Since the newest certified backup.", "s", ((metrics.BACKUP_AGE.full_name, "age"),)),
        Panel("Nodes", "Machines of the cluster by state.", "short", ((metrics.NODES.full_name, "{{state}}"),)),
        Panel("Risk of nodes", "Probability that a machine fails within its horizon.", "percentunit",
              ((metrics.NODE_RISK.full_name, "{{node}}"),)),
        Panel("Health of nodes", "Watched machines by state, and those that take no new work.", "short",
              ((metrics.NODE_HEALTH.full_name, "{{state}}"), (metrics.NODES_CORDONED.full_name, "cordoned"))),
        Panel("Gateway memory", "Resident memory of the gateway's process.", "bytes",
              ((metrics.GATEWAY_RESIDENT_BYTES.full_name, "resident"),)),
    )  # fmt: skip


def _dashboard(uid: str, title: str, panels: Sequence[Panel]) -> JsonObject:
    return {
        "uid": uid,
        "title": title,
        "tags": ["platformops"],
        "editable": False,
        "schemaVersion": SCHEMA_VERSION,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_source_variable(), _system_variable()]},
        "panels": [_panel(i, panel) for i, panel in enumerate(panels)],
    }


def _source_variable() -> JsonObject:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}


def _system_variable() -> JsonObject:
    return {
        "name": "system",
        "label": "System",
        "type": "query",
        "datasource": SOURCE,
        "query": f"label_values({metrics.REQUESTS.exported[0]}, system)",
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "refresh": 2,
    }


def _panel(index: int, panel: Panel) -> JsonObject:
    targets: list[Json] = [
        {
            "refId": chr(ord("A") + i),
            "expr": expr,
            "legendFormat": legend,
            "datasource": SOURCE,
            # Points that lead from a quantile to a request: its id finds the log line and the trace.
            "exemplar": "histogram_quantile" in expr,
        }
        for i, (expr, legend) in enumerate(panel.queries)
    ]
    return {
        "id": index + 1,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": SOURCE,
        "gridPos": {"x": WIDTH * (index % 2), "y": HEIGHT * (index // 2), "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
                    "tooltip": {"mode": "multi", "sort": "desc"}},
        "targets": targets,
    }  # fmt: skip


def _object(value: JsonObject, name: str) -> JsonObject:
    found = value.get(name)
    return found if isinstance(found, Mapping) else {}


def _objects(value: Json) -> list[JsonObject]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list | tuple) else []
