"""A Helm chart of the same manifests, with the values that people change in `values.yaml`."""

from __future__ import annotations

import re
from dataclasses import replace

from platformops.delivery.kube.manifests import as_yaml, manifests
from platformops.delivery.kube.settings import KubeSettings

_NUMBER = re.compile(r"'(\{\{ [^}']+ \| int \}\})'")
"""Quotes that YAML put around an expression which stands for a number."""
_DOT_CLASS = "  storageClassName: '{{ . }}'\n"
_OPTIONAL = {"podmonitor": "monitoring.enabled", "rayjob": "job.enabled", "rayservice": "service.enabled"}


def chart(settings: KubeSettings, version: str) -> dict[str, str]:
    """Path within the chart -> content."""
    filled = replace(
        settings,
        image="{{ .Values.image }}",
        workers_min="{{ .Values.workers.min | int }}",
        workers_max="{{ .Values.workers.max | int }}",
        cpus="{{ .Values.resources.cpu }}",
        memory="{{ .Values.resources.memory }}",
        storage="{{ .Values.storage.size }}",
        storage_class="{{ .Values.storage.class }}",
        redis="{{ .Values.redis }}",
        secret="{{ .Values.secret }}",
    )
    templates = {f"templates/{name}.yaml": _template(name, as_yaml(m)) for name, m in manifests(filled).items()}
    return {
        "Chart.yaml": _chart(settings, version),
        "values.yaml": _values(settings),
        "templates/NOTES.txt": _notes(settings),
        **templates,
    }


def _template(name: str, text: str) -> str:
    plain = _NUMBER.sub(r"\1", text)
    if name == "storage":
        line = "  storageClassName: '{{ .Values.storage.class }}'\n"
        plain = plain.replace(line, f"  {{{{- with .Values.storage.class }}}}\n{_DOT_CLASS}  {{{{- end }}}}\n")
    switch = _OPTIONAL.get(name)
    return f"{{{{- if .Values.{switch} }}}}\n{plain}{{{{- end }}}}\n" if switch else plain


def _chart(settings: KubeSettings, version: str) -> str:
    return f"""\
apiVersion: v2
name: {settings.system}
description: {settings.system} by PlatformOps on KubeRay.
type: application
version: {version}
appVersion: "{settings.ray_version}"
kubeVersion: ">=1.27.0-0"
"""


def _values(settings: KubeSettings) -> str:
    return f"""\
# The image that `platformops build` describes; name it by its digest.
image: {settings.image}
workers:
  # Pods beside the head, which takes no work of its own.
  min: {settings.workers_min}
  max: {settings.workers_max}
resources:
  # Of one pod, requested and at most.
  cpu: "{settings.cpus}"
  memory: {settings.memory}
storage:
  # A volume that many pods may write (ReadWriteMany), mounted as PLATFORMOPS_HOME.
  size: {settings.storage}
  # Empty for the cluster's default.
  class: "{settings.storage_class}"
# Keeps the state of Ray's GCS, so that a head that dies comes back as it was.
redis: {settings.redis}
# Holds `redis-password`; and `store` and `artifacts`, where state is not kept on the volume.
secret: {settings.secret}
service:
  # Serves what is stable; needs a model that was released before.
  enabled: false
job:
  # One run of the spec, on a cluster of its own.
  enabled: false
monitoring:
  # A PodMonitor, where the Prometheus operator is installed.
  enabled: false
"""


def _notes(settings: KubeSettings) -> str:
    labels = f"ray.io/cluster={settings.cluster},ray.io/node-type=head"
    return f"""\
{settings.cluster} starts in {{{{ .Release.Namespace }}}}. Its token is in the secret {settings.cluster}:

  kubectl get raycluster {settings.cluster} -n {{{{ .Release.Namespace }}}}
  kubectl exec -it -n {{{{ .Release.Namespace }}}} -c ray-head \\
    $(kubectl get pod -n {{{{ .Release.Namespace }}}} -l {labels} -o name) \\
    -- platformops up {settings.spec}
"""
