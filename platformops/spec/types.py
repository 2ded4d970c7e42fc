"""What people want: the frozen models of one YAML file, section by section."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
Ratio = Annotated[float, Field(ge=0.0, le=1.0)]
Devices = Literal["auto", "cpu", "gpu"]


class Spec(BaseModel):
    """Frozen, strict, and without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class SplitSpec(Spec):
    """Shares of the rows; they sum to 1. A share of 0 for `test` needs `data.test`."""

    train: Ratio = 0.7
    validation: Ratio = 0.15
    test: Ratio = 0.15
    by: Literal["content"] = "content"
    """Rows with equal pixels always fall on the same side."""


class CheckSpec(Spec):
    missing_ratio: Ratio = 0.01
    """Largest share of rows that cannot be read before the run is refused; they are quarantined and listed."""
    classes: Literal["stable", "any"] = "any"
    """`stable` refuses classes that the champion does not know, and the loss of one that it knows."""
    max_pixels: Annotated[int, Field(gt=0)] = 25_000_000
    """Of one image, checked in its header before it is decoded."""


class DataSpec(Spec):
    source: str
    """`sklearn://digits`, `torchvision://NAME`, class folders, a Parquet file, folder or pattern, `s3://...`,
    or `data://...` below PLATFORMOPS_DATA."""
    test: str | None = None
    """A source of its own for the test split; rows of `source` with the same content are dropped."""
    columns: dict[str, str] = {}
    """Names of the columns `image` and `label` where they differ."""
    split: SplitSpec = SplitSpec()
    prepare: tuple[dict[str, JsonValue], ...] = ()
    """Operations in order, for example `{resize: 32}`, `{crop: {random: 32, padding: 4}}`, `{flip: horizontal}`,
    `{normalize: auto}`."""
    check: CheckSpec = CheckSpec()
    options: dict[str, JsonValue] = {}
    """Handed to the app's `parts`."""


class SearchSpec(Spec):
    trials: Annotated[int, Field(ge=1, le=10_000)] = 8
    epochs: Annotated[int, Field(ge=1)] | None = None
    """Longest trial; default a third of `train.epochs`."""
    space: dict[str, dict[str, JsonValue]] = {}
    """Parameter -> one of `{log: [low, high]}`, `{uniform: [low, high]}`, `{int: [low, high]}`, `{choice: [...]}`."""
    metric: str = "accuracy"
    concurrent: Annotated[int, Field(ge=1)] = 2
    time_limit_s: Annotated[float, Field(gt=0)] | None = None


class TrainSpec(Spec):
    framework: Literal["torch"] = "torch"
    model: str = "small_cnn"
    """`small_cnn`, `resnet9`, `torchvision:NAME`, or `own` for the app's `build_model`."""
    epochs: Annotated[int, Field(ge=1, le=100_000)] = 10
    batch_size: Annotated[int, Field(ge=1)] = 128
    lr: Annotated[float, Field(gt=0)] = 0.01
    """Peak of the one-cycle schedule."""
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    optimizer: Literal["sgd", "adamw"] = "sgd"
    label_smoothing: Ratio = 0.0
    seed: int = 0
    params: dict[str, JsonValue] = {}
    """Options of the model: `width`, `dropout`..."""
    workers: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    devices: Devices = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    time_limit_s: Annotated[float, Field(gt=0)] | None = None
    """Training ends after the epoch in which this is reached; the schedule is fitted to it."""
    max_failures: Annotated[int, Field(ge=0)] = 5
    """Crashed worker groups that are restarted from the last checkpoint before the step fails."""


class ReleaseSpec(Spec):
    steps: tuple[str, ...] = ("100%",)
    """`shadow` and rising percentages that end at 100%."""
    false_alarms: str = "5%"
    on_fail: Literal["rollback", "pause"] = "rollback"
    max_bake: str = "1h"


class SloSpec(Spec):
    p99_ms: Annotated[float, Field(gt=0)] = 250.0
    errors: str = "0.1%"


class ServeSpec(Spec):
    replicas: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = (1, 1)
    """Lower and upper bound of autoscaling on items in flight."""
    cpus: Annotated[float, Field(ge=0)] = 0.1
    """Logical CPUs that Ray reserves a replica."""
    threads: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    batch: Annotated[int, Field(ge=1, le=1024)] = 64
    """Most items that travel together to a replica."""
    timeout_s: Annotated[float, Field(gt=0)] = 10.0
    max_queue: Annotated[int, Field(ge=1)] = 512
    """Items waiting at one gateway before it answers 503."""
    max_body_bytes: Annotated[int, Field(ge=1)] = 10 * 1024 * 1024
    runtime: Literal["auto", "onnx", "torch"] = "auto"
    slo: SloSpec = SloSpec()


class WatchSpec(Spec):
    drift: Literal["auto", "off"] = "auto"
    retrain: bool = False
    cooldown: str = "6h"


class HealthSpec(Spec):
    drain: Literal["expected_cost", "never"] = "expected_cost"
    budget: str = "10%"


class EnvironmentSpec(Spec):
    approve: tuple[str, ...] = ()


class StageSpec(Spec):
    """A stage of the user's own: `uses: module:function` takes a StageContext and `with` as keyword arguments."""

    name: Name
    uses: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
    needs: tuple[Name, ...] = ()
    with_: dict[str, JsonValue] = Field(default={}, alias="with")
    sources: tuple[str, ...] = ()
    """Files or URIs whose bytes are part of the stage's identity."""
    retries: Annotated[int, Field(ge=0, le=100)] = 0
    timeout_s: Annotated[float, Field(gt=0)] | None = None


class PlatformSpec(Spec):
    """One system. `app`, `data` and `gates` go together; a spec of `stages` alone is a pipeline without a model."""

    system: Name
    app: str | None = None
    """A built-in (`image`) or a path to a Python file with the same functions (`./app.py`)."""
    data: DataSpec | None = None
    search: SearchSpec | None = None
    train: TrainSpec = TrainSpec()
    gates: dict[str, str] = {}
    """Metric -> condition: `">= 0.95"`, `"<= 80"`, `">= champion - 0.01 at 95%"`; `parity` -> `exact` or a
    tolerance."""
    stages: tuple[StageSpec, ...] = ()
    release: ReleaseSpec = ReleaseSpec()
    serve: ServeSpec = ServeSpec()
    watch: WatchSpec = WatchSpec()
    health: HealthSpec = HealthSpec()
    environments: dict[Name, EnvironmentSpec] = {}
