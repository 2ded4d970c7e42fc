"""Every metric of the platform, once: what code counts, and what rules and dashboards may ask for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

PREFIX = "platformops_"
MOST_SERIES = 1_000
"""Of one metric. Systems, revisions and nodes are bounded by what people deploy, yet a year of releases is not; what
comes after that many is counted under OTHER."""
OTHER = "(other)"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class MetricKind(Enum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric; `name` without the prefix, and without the `_total` that a counter gets when it is exported."""

    name: str
    kind: MetricKind
    unit: str
    """Of a base kind: seconds, bytes, or what is counted."""
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def full_name(self) -> str:
        return PREFIX + self.name

    @property
    def exported(self) -> tuple[str, ...]:
        """The names under which Prometheus has it."""
        match self.kind:
            case MetricKind.COUNTER:
                return (f"{self.full_name}_total",)
            case MetricKind.HISTOGRAM:
                return tuple(f"{self.full_name}_{part}" for part in ("bucket", "sum", "count"))
            case MetricKind.GAUGE:
                return (self.full_name,)


def _counter(name: str, unit: str, meaning: str, *labels: str) -> Metric:
    return Metric(name, MetricKind.COUNTER, unit, meaning, labels)


def _gauge(name: str, unit: str, meaning: str, *labels: str) -> Metric:
    return Metric(name, MetricKind.GAUGE, unit, meaning, labels)


REQUESTS = _counter("requests", "requests", "Requests answered.", "system", "revision", "status")
REQUEST_SECONDS = Metric(
    "request_seconds",
    MetricKind.HISTOGRAM,
    "seconds",
    "From the head of a request to its answer.",
    ("system", "revision"),
    SECONDS,
)
ITEMS = _counter("items", "items", "Items predicted.", "system", "revision")
REFUSED = _counter("refused", "requests", "Requests that got no prediction.", "system", "code")
QUEUED = _gauge("items_queued", "items", "Items that wait for a call.", "revision")
IN_FLIGHT = _gauge("items_in_flight", "items", "Items on their way to a replica.", "revision")
CALLS = _counter("calls", "calls", "Calls to replicas that returned.", "revision", "node")
CALL_ITEMS = _counter("call_items", "items", "Items that those calls carried.", "revision", "node")
CALL_SECONDS = _counter("call_seconds", "seconds", "From sending a call to its return.", "revision", "node")
STAGE_SECONDS = _counter(
    "stage_seconds", "seconds", "Time of replicas in decode, transform and model.", "revision", "node", "stage"
)
REPLICA_CPU_SECONDS = _counter("replica_cpu_seconds", "seconds", "CPU of replicas in those stages.", "revision", "node")
GATEWAY_CPU_SECONDS = _gauge("gateway_cpu_seconds", "seconds", "CPU that the gateway's process has used.")
GATEWAY_RESIDENT_BYTES = _gauge("gateway_resident_bytes", "bytes", "Memory of the gateway's process.")

REVISION_INFO = _gauge(
    "revision_info", "info", "1 for what is served: joins versions.", "system", "revision", "version"
)
ROUTE_WEIGHT = _gauge("route_weight_percent", "percent", "Traffic that the route gives.", "system", "revision")
SYSTEM_UP = _gauge("system_up", "info", "1 for a system that is to be up.", "system")
SLO_P99_SECONDS = _gauge("slo_p99_seconds", "seconds", "Limit of the 99th percentile.", "system")
SLO_ERROR_RATIO = _gauge("slo_error_ratio", "ratio", "Share of requests that may fail.", "system")
ROLLOUT = _gauge("rollout", "info", "1 for the state of the newest release.", "system", "state")
ROLLOUT_STEP = _gauge("rollout_step", "steps", "Step of the newest release, from 0.", "system")
RUNS = _gauge("runs", "runs", "Of the newest runs, those in a state.", "system", "state")
RUN_HEARTBEAT_AGE = _gauge(
    "run_heartbeat_age_seconds", "seconds", "Of a run that goes on: since it was heard.", "system"
)
STAGE_LAST_SECONDS = _gauge(
    "stage_last_seconds", "seconds", "Of the newest run that carried it out: how long a stage took.",
    "system", "run", "stage",
)  # fmt: skip
STAGE_FIGURE = _gauge(
    "stage_figure",
    "value",
    "Of runs that go on, and of the newest that carried it out: what a stage says of itself, such as the loss of a "
    "training and the step seconds of its ranks.",
    "system", "run", "stage", "figure", "rank",
)  # fmt: skip
MODEL_METRIC = _gauge("model_metric", "value", "Of the newest version: what evaluation found.", "model", "metric")
CONTROLLER_AGE = _gauge("controller_age_seconds", "seconds", "Since the controller was heard.")
CONTROLLER_EPOCH = _gauge("controller_epoch", "takeovers", "How often a controller took over.")
CONTROLLER_PROBLEMS = _gauge("controller_problems", "problems", "What the controller could not carry out last time.")
NODES = _gauge("nodes", "nodes", "Machines of the cluster.", "state")
NODE_RISK = _gauge(
    "node_failure_probability", "ratio", "That a node fails within its horizon, an hour unless set.", "node"
)
NODE_HEALTH = _gauge("nodes_by_health", "nodes", "Watched machines by the state of their health.", "state")
NODES_CORDONED = _gauge("nodes_cordoned", "nodes", "Machines that take no new work.")
STORE_UP = _gauge("store_up", "info", "1 when the store could be read.")
STORE_READ_SECONDS = _gauge("store_read_seconds", "seconds", "How long the last reading for these metrics took.")
BACKUP_AGE = _gauge("backup_age_seconds", "seconds", "Since the newest backup was certified; nothing before the first.")
LABELLED = _gauge("labelled", "requests", "Predictions whose truth came back.", "version")
WRONG = _gauge("wrong", "requests", "Of those, the wrong ones.", "version")
DRIFT_EVIDENCE = _gauge(
    "drift_log_evidence", "nats", "Strongest evidence of drift; confirmed at 13.8.", "system", "kind"
)
DRIFT_CONFIRMED = _gauge("drift_confirmed", "info", "1 while a confirmed drift has no answer yet.", "system")

COUNTED = (
    REQUESTS, REQUEST_SECONDS, ITEMS, REFUSED, QUEUED, IN_FLIGHT,
    CALLS, CALL_ITEMS, CALL_SECONDS, STAGE_SECONDS, REPLICA_CPU_SECONDS,
)  # fmt: skip
"""Counted by the gateway as it serves."""
OF_PROCESS = (GATEWAY_CPU_SECONDS, GATEWAY_RESIDENT_BYTES)
"""Of the gateway's process, as they are when somebody asks."""
READ = (
    REVISION_INFO, ROUTE_WEIGHT, SYSTEM_UP, SLO_P99_SECONDS,
    SLO_ERROR_RATIO, ROLLOUT, ROLLOUT_STEP, RUNS, RUN_HEARTBEAT_AGE, STAGE_LAST_SECONDS, STAGE_FIGURE, MODEL_METRIC,
    CONTROLLER_AGE, CONTROLLER_EPOCH, CONTROLLER_PROBLEMS, NODES, NODE_RISK, NODE_HEALTH, NODES_CORDONED, STORE_UP,
    STORE_READ_SECONDS, BACKUP_AGE, LABELLED, WRONG, DRIFT_EVIDENCE, DRIFT_CONFIRMED,
)  # fmt: skip
"""Read from the store every few seconds."""
ALL = (*COUNTED, *OF_PROCESS, *READ)


@dataclass(frozen=True, slots=True)
class Reading:
    """The value of one series of a gauge now."""

    metric: Metric
    value: float
    labels: tuple[str, ...] = ()
    """In the order of the metric's labels."""
