"""What manifests are made with: each value plain, or an expression by which Helm fills it in."""

from __future__ import annotations

from dataclasses import dataclass

HOME = "/var/lib/platformops"
PROJECT = "/opt/platformops"
"""Where the image has the project's folder."""
GATEWAY_PORT, DASHBOARD_PORT, METRICS_PORT, GCS_PORT, RAYLET_PORT = 8000, 8265, 8080, 6379, 10002
USER = 1000


@dataclass(frozen=True, slots=True)
class KubeSettings:
    """Counts may be Helm expressions, hence texts beside numbers."""

    system: str
    spec: str
    """Path of the spec file within the project."""
    image: str
    ray_version: str
    """Equal to that in the image."""
    revision: str = ""
    """What is served: requests are routed by its name. Empty for the first."""
    workers_min: int | str = 1
    workers_max: int | str = 4
    cpus: str = "2"
    """Of one pod."""
    memory: str = "8Gi"
    storage: str = "50Gi"
    storage_class: str = ""
    """Of the volume for `PLATFORMOPS_HOME`, which all pods mount; empty for the cluster's default."""
    redis: str = "redis:6379"
    """Where GCS keeps its state, so that a head that dies comes back as it was."""
    secret: str = "platformops"
    """Holds `redis-password`, and where they are used `store` (PLATFORMOPS_STORE) and `artifacts`."""

    @property
    def cluster(self) -> str:
        return f"{self.system}-ray"

    @property
    def claim(self) -> str:
        return f"{self.system}-home"
