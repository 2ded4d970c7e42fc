"""The pods of a Ray cluster: who they run as, what they hold, how they are probed."""

from __future__ import annotations

from platformops.delivery.kube.settings import (
    DASHBOARD_PORT,
    GATEWAY_PORT,
    GCS_PORT,
    HOME,
    METRICS_PORT,
    PROJECT,
    RAYLET_PORT,
    USER,
    KubeSettings,
)
from platformops.store.records import Json, JsonObject

WORKER_PORTS = {"gateway": GATEWAY_PORT, "metrics": METRICS_PORT, "raylet": RAYLET_PORT}
HEAD_PORTS = {"gcs": GCS_PORT, "dashboard": DASHBOARD_PORT, **WORKER_PORTS}


def head_group(settings: KubeSettings) -> JsonObject:
    """The head takes no work of its own, so that a step that needs too much memory never ends it."""
    return {
        "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0", **_start_params()},
        "template": _template("ray-head", HEAD_PORTS, settings),
    }


def worker_group(settings: KubeSettings) -> JsonObject:
    return {
        "groupName": "workers",
        "replicas": settings.workers_min,
        "minReplicas": settings.workers_min,
        "maxReplicas": settings.workers_max,
        "rayStartParams": _start_params(),
        "template": _template("ray-worker", WORKER_PORTS, settings),
    }


def _start_params() -> JsonObject:
    """A fixed port for the raylet, whose health is asked there."""
    return {"node-manager-port": str(RAYLET_PORT), "metrics-export-port": str(METRICS_PORT)}


def _template(name: str, ports: dict[str, int], settings: KubeSettings) -> JsonObject:
    return {
        "metadata": {
            "labels": {"app.kubernetes.io/name": "platformops", "app.kubernetes.io/instance": settings.system}
        },
        "spec": {
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER,
                "runAsGroup": USER,
                "fsGroup": USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "terminationGracePeriodSeconds": 60,
            "containers": [_container(name, ports, settings)],
            "volumes": [
                {"name": "home", "persistentVolumeClaim": {"claimName": settings.claim}},
                {"name": "shared-memory", "emptyDir": {"medium": "Memory"}},
                {"name": "ray", "emptyDir": {}},
            ],
        },
    }


def _container(name: str, ports: dict[str, int], settings: KubeSettings) -> JsonObject:
    resources: JsonObject = {"cpu": settings.cpus, "memory": settings.memory}
    return {
        "name": name,
        "image": settings.image,
        "imagePullPolicy": "IfNotPresent",
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "env": [
            {"name": "PLATFORMOPS_HOME", "value": HOME},
            {"name": "PYTHONPATH", "value": PROJECT},
            _from_secret("PLATFORMOPS_STORE", settings.secret, "store"),
            _from_secret("PLATFORMOPS_ARTIFACTS", settings.secret, "artifacts"),
        ],
        "ports": [{"name": port, "containerPort": number} for port, number in ports.items()],
        "resources": {"requests": resources, "limits": resources},
        **_probes(),
        "volumeMounts": [
            {"name": "home", "mountPath": HOME},
            {"name": "shared-memory", "mountPath": "/dev/shm"},
            {"name": "ray", "mountPath": "/tmp/ray"},
        ],
    }


def _probes() -> JsonObject:
    """The raylet's standard gRPC health, which wants no token; KubeRay's own probes need wget in the image."""
    probe: JsonObject = {"grpc": {"port": RAYLET_PORT}, "timeoutSeconds": 2}
    return {
        "startupProbe": {**probe, "periodSeconds": 5, "failureThreshold": 60},
        "readinessProbe": {**probe, "periodSeconds": 5, "failureThreshold": 3},
        "livenessProbe": {**probe, "periodSeconds": 10, "failureThreshold": 12},
    }


def _from_secret(variable: str, secret: str, key: str) -> Json:
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret, "key": key, "optional": True}}}
