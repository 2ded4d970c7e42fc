"""All files of an export, by their path: what an existing stack needs to watch this platform."""

from __future__ import annotations

import json
from collections.abc import Mapping

import yaml

from platformops.observation import metrics
from platformops.observation.stack import dashboards, rules, servers, shippers
from platformops.observation.stack.servers import Targets
from platformops.store.records import JsonObject

GRAFANA_FOLDER = "/etc/grafana/dashboards/platformops"


def files(targets: Targets, *, logs: str, alertmanager: str = "127.0.0.1:9093", webhook: str = "") -> Mapping[str, str]:
    """Path below the export -> content."""
    found = {
        "README.txt": _readme(),
        "metrics.txt": _metrics(),
        "prometheus/prometheus.yml": as_yaml(servers.prometheus_document(targets, alertmanager=alertmanager)),
        "prometheus/rules.yml": as_yaml(rules.rules_document()),
        "prometheus/rules_test.yml": as_yaml(rules.tests_document()),
        "alertmanager/alertmanager.yml": as_yaml(servers.alertmanager_document(webhook)),
        "grafana/provisioning/dashboards/platformops.yml": as_yaml(dashboards.provider_document(GRAFANA_FOLDER)),
        "grafana/provisioning/datasources/platformops.yml": as_yaml(
            dashboards.source_document("http://127.0.0.1:9090")
        ),
        "logs/rsyslog.conf": shippers.rsyslog_text(logs, host="127.0.0.1", port=9200, work="/var/spool/rsyslog"),
        "logs/filebeat.yml": as_yaml(shippers.filebeat_document(logs, url="http://127.0.0.1:9200")),
        "logs/logstash.conf": shippers.logstash_text(url="http://127.0.0.1:9200"),
        "logs/index_template.json": as_json(shippers.index_template()),
    }
    found |= {f"grafana/dashboards/{name}": as_json(board) for name, board in dashboards.dashboards().items()}
    return found


def as_yaml(document: JsonObject) -> str:
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110)


def as_json(document: JsonObject) -> str:
    return json.dumps(document, indent=2) + "\n"


def _metrics() -> str:
    lines = ["name\tkind\tunit\tlabels\tmeaning"]
    lines += [f"{m.exported[0]}\t{m.kind.value}\t{m.unit}\t{','.join(m.labels)}\t{m.meaning}" for m in metrics.ALL]
    return "\n".join(lines) + "\n"


def _readme() -> str:
    return """What an existing stack needs to watch PlatformOps.

prometheus/    put the scrape part into yours, rules.yml beside it; `promtool test rules rules_test.yml` proves them
alertmanager/  routes for pages and tickets
grafana/       provisioning and dashboards, folder "PlatformOps", beside Ray's own
logs/          rsyslog, Filebeat, Logstash; index_template.json is for PUT _index_template/platformops
metrics.txt    every metric with kind, unit and meaning

The dashboards are checked by rules of ours and their queries against a real Prometheus; no Grafana server drew them.
"""
