"""Configuration of Prometheus and Alertmanager: ours to run, or parts to put into an existing stack."""

from __future__ import annotations

from dataclasses import dataclass

from platformops.store.records import Json, JsonObject

JOB = "platformops"
RAY_JOB = "ray"
WEBHOOK_SECONDS = {"group_wait": "5s", "group_interval": "1m", "repeat_interval": "4h"}


@dataclass(frozen=True, slots=True)
class Targets:
    """What is scraped, and with what."""

    gateways: tuple[str, ...]
    """`HOST:PORT` of each."""
    key_file: str
    """Holds a key of scope `operate`."""
    ray_discovery_url: str = ""
    """Of the dashboard, `http://HOST:PORT/api/prometheus/sd`; empty leaves Ray out."""
    ray_token_file: str = ""


def scrape_configs(targets: Targets) -> list[Json]:
    """The list under `scrape_configs`."""
    ours: JsonObject = {
        "job_name": JOB,
        "metrics_path": "/metrics",
        "authorization": {"type": "Bearer", "credentials_file": targets.key_file},
        "static_configs": [{"targets": list(targets.gateways)}],
    }
    if not targets.ray_discovery_url:
        return [ours]
    discovery: dict[str, Json] = {"url": targets.ray_discovery_url, "refresh_interval": "30s"}
    if targets.ray_token_file:
        discovery["authorization"] = {"type": "Bearer", "credentials_file": targets.ray_token_file}
    return [ours, {"job_name": RAY_JOB, "http_sd_configs": [discovery]}]


def prometheus_document(targets: Targets, *, alertmanager: str, scrape_s: int = 5) -> JsonObject:
    """The content of `prometheus.yml`, beside `rules.yml`."""
    return {
        "global": {"scrape_interval": f"{scrape_s}s", "evaluation_interval": f"{scrape_s}s"},
        "rule_files": ["rules.yml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
        "scrape_configs": scrape_configs(targets),
    }


def alertmanager_document(webhook: str, *, group_wait: str = WEBHOOK_SECONDS["group_wait"]) -> JsonObject:
    """The content of `alertmanager.yml`: pages and tickets to one webhook, or kept to be looked at without one.

    A page silences the tickets of the same system: whoever is up already needs no second message.
    """
    hook: list[Json] = [{"url": webhook, "send_resolved": True}] if webhook else []
    receiver: dict[str, Json] = {"name": "platformops"}
    if hook:
        receiver["webhook_configs"] = hook
    return {
        "route": {
            "receiver": "platformops",
            "group_by": ["alertname", "system"],
            **(WEBHOOK_SECONDS | {"group_wait": group_wait}),
            "routes": [{"matchers": ['severity="ticket"'], "receiver": "platformops", "repeat_interval": "1d"}],
        },
        "inhibit_rules": [
            {"source_matchers": ['severity="page"'], "target_matchers": ['severity="ticket"'], "equal": ["system"]}
        ],
        "receivers": [receiver],
    }
