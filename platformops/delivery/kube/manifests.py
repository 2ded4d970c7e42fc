"""The Kubernetes manifests of a system: KubeRay's three kinds, and what stands around them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping

import yaml

from platformops.delivery.kube.pods import head_group, worker_group
from platformops.delivery.kube.settings import (
    DASHBOARD_PORT,
    GATEWAY_PORT,
    HOME,
    METRICS_PORT,
    KubeSettings,
)
from platformops.store.records import Json, JsonObject

RUN_DEADLINE_S = 86_400
KEPT_S = 600
"""How long a finished job's cluster stays, for its logs."""


def manifests(settings: KubeSettings) -> dict[str, JsonObject]:
    """Name of the file -> manifest."""
    return {
        "storage": storage(settings),
        "raycluster": ray_cluster(settings),
        "rayjob": ray_job(settings),
        "rayservice": ray_service(settings),
        "podmonitor": pod_monitor(settings),
        "networkpolicy": network_policy(settings),
    }


def ray_cluster(settings: KubeSettings) -> JsonObject:
    """A standing cluster, on which `platformops up` and `release` work by its RAY_ADDRESS."""
    return {**_head("ray.io/v1", "RayCluster", settings.cluster, settings), "spec": cluster_spec(settings)}


def cluster_spec(settings: KubeSettings) -> JsonObject:
    """With token authentication, and the state of GCS kept outside of the head."""
    password: JsonObject = {"valueFrom": {"secretKeyRef": {"name": settings.secret, "key": "redis-password"}}}
    return {
        "rayVersion": settings.ray_version,
        "authOptions": {"mode": "token"},
        "gcsFaultToleranceOptions": {"redisAddress": settings.redis, "redisPassword": password},
        "headGroupSpec": head_group(settings),
        "workerGroupSpecs": [worker_group(settings)],
    }


def ray_job(settings: KubeSettings) -> JsonObject:
    """One run of the spec on a cluster of its own. Finished steps are not run again, so a second attempt is cheap."""
    return {
        **_head("ray.io/v1", "RayJob", f"{settings.system}-run", settings),
        "spec": {
            "entrypoint": f"python -m platformops run {shlex.quote(settings.spec)} --strict --json",
            # By the operator itself: a submitting pod would need a way past the network policy.
            "submissionMode": "HTTPMode",
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": KEPT_S,
            "activeDeadlineSeconds": RUN_DEADLINE_S,
            "backoffLimit": 2,
            "rayClusterSpec": cluster_spec(settings),
        },
    }


def ray_service(settings: KubeSettings) -> JsonObject:
    """Serves what is stable behind the gateway; a new cluster takes over once it answers."""
    return {
        **_head("ray.io/v1", "RayService", settings.system, settings),
        "spec": {
            "serveConfigV2": yaml.safe_dump(serve_config(settings), sort_keys=False),
            "upgradeStrategy": {"type": "NewCluster"},
            "serviceUnhealthySecondThreshold": 900,
            "deploymentUnhealthySecondThreshold": 300,
            "rayClusterConfig": cluster_spec(settings),
        },
    }


def serve_config(settings: KubeSettings) -> JsonObject:
    """Ray Serve's config of the project's two applications; the gateway is the only door, so its proxy is off."""
    return {
        "proxy_location": "Disabled",
        "applications": [
            {
                "name": settings.revision or f"{settings.system}-r1",
                "route_prefix": None,
                "import_path": "serve.model:application",
                "args": {"home": HOME, "system": settings.system},
            },
            {
                "name": "platformops-gateway-watch",
                "route_prefix": None,
                "import_path": "serve.gateway:application",
                "args": {"home": HOME, "host": "0.0.0.0", "port": GATEWAY_PORT},
            },
        ],
    }


def storage(settings: KubeSettings) -> JsonObject:
    """The volume that every pod mounts as PLATFORMOPS_HOME."""
    named: JsonObject = {"storageClassName": settings.storage_class} if settings.storage_class else {}
    return {
        **_head("v1", "PersistentVolumeClaim", settings.claim, settings),
        "spec": {
            "accessModes": ["ReadWriteMany"],
            **named,
            "resources": {"requests": {"storage": settings.storage}},
        },
    }


def pod_monitor(settings: KubeSettings) -> JsonObject:
    """Has Prometheus scrape each pod."""
    return {
        **_head("monitoring.coreos.com/v1", "PodMonitor", settings.cluster, settings),
        "spec": {
            "selector": {"matchLabels": _labels(settings)},
            "podMetricsEndpoints": [{"port": "metrics", "interval": "15s"}],
        },
    }


def network_policy(settings: KubeSettings) -> JsonObject:
    """Pods of the cluster reach each other; from outside only gateway, metrics, and for the operator the dashboard."""
    own: JsonObject = {"podSelector": {"matchLabels": _labels(settings)}}
    operator: JsonObject = {
        "namespaceSelector": {},
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": "kuberay-operator"}},
    }
    monitoring: JsonObject = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    clients: JsonObject = {"podSelector": {"matchLabels": {f"{settings.system}-client": "true"}}}
    return {
        **_head("networking.k8s.io/v1", "NetworkPolicy", settings.cluster, settings),
        "spec": {
            "podSelector": {"matchLabels": _labels(settings)},
            "policyTypes": ["Ingress"],
            "ingress": [
                {"from": [own]},
                {"from": [clients], "ports": _ports(GATEWAY_PORT)},
                {"from": [monitoring], "ports": _ports(METRICS_PORT)},
                {"from": [operator], "ports": _ports(DASHBOARD_PORT)},
            ],
        },
    }


def _ports(*numbers: int) -> list[Json]:
    return [{"protocol": "TCP", "port": number} for number in numbers]


def _labels(settings: KubeSettings) -> JsonObject:
    return {"app.kubernetes.io/name": "platformops", "app.kubernetes.io/instance": settings.system}


def _head(api: str, kind: str, name: str, settings: KubeSettings) -> JsonObject:
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "labels": _labels(settings)}}


def as_yaml(manifest: Mapping[str, Json]) -> str:
    """By way of JSON, so that no part that stands in two places becomes an anchor."""
    text: str = yaml.safe_dump(json.loads(json.dumps(manifest)), sort_keys=False, width=110)
    return text
