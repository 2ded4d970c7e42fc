"""What people want: the frozen models of one YAML file, section by section."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from platformops.errors import UserError
from platformops.spec.conditions import MOST_DURATION_S, duration_s, percent, release_weights
from platformops.spec.names import METRIC, NAME

APPS = ("image",)
"""The built-in applications."""


def _refused(what: str) -> PydanticCustomError:
    return PydanticCustomError("refused", "{what}", {"what": what})


def _accepted_by(read: Callable[[Any], object]) -> AfterValidator:
    def check(value: object) -> object:
        try:
            read(value)
        except UserError as error:
            raise _refused(error.message) from None
        return value

    return AfterValidator(check)


def search_range(form: Mapping[str, JsonValue]) -> None:
    """Raises UserError unless `form` is one of the four forms of `search.space`."""
    kind, value = next(iter(form.items())) if len(form) == 1 else ("", None)
    if kind == "choice" and isinstance(value, list) and value:
        return
    if kind not in ("log", "uniform", "int") or not isinstance(value, list) or len(value) != 2:
        raise UserError(
            "must be one of {log: [low, high]}, {uniform: [low, high]}, {int: [low, high]}, {choice: [...]}"
        )
    low, high = (_bound(v, kind) for v in value)
    if low >= high:
        raise UserError(f"must have a lower bound below its upper one (got {low:g} and {high:g})")
    if kind == "log" and low <= 0:
        raise UserError(f"must have bounds above 0, being logarithmic (got {low:g})")


def _bound(value: JsonValue, kind: str) -> float:
    types: tuple[type, ...] = (int,) if kind == "int" else (int, float)
    if isinstance(value, bool) or not isinstance(value, types) or not math.isfinite(float(str(value))):
        noun = "whole numbers" if kind == "int" else "finite numbers (an exponent is written 1.0e-4)"
        raise UserError(f"must have two {noun} as bounds")
    return float(str(value))


Name = Annotated[str, StringConstraints(pattern=NAME)]
Metric = Annotated[str, StringConstraints(pattern=METRIC)]
Ratio = Annotated[float, Field(ge=0.0, le=1.0)]
Seconds = Annotated[float, Field(gt=0, le=MOST_DURATION_S)]
Percentage = Annotated[str, _accepted_by(percent), Field(examples=["5%"])]
Duration = Annotated[str, _accepted_by(duration_s), Field(examples=["90s", "6h"])]
Devices = Literal["auto", "cpu", "gpu"]


class Spec(BaseModel):
    """Frozen, strict, and without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class SplitSpec(Spec):
    """Shares of the rows; they sum to 1. A share of 0 for `test` needs `data.test`."""

    train: Ratio = 0.7
    validation: Ratio = 0.15
    test: Ratio = 0.15
    by: Literal["content"] = "content"
    """Rows with equal pixels always fall on the same side."""

    @model_validator(mode="after")
    def _shares(self) -> Self:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-6:
            raise _refused(f"train, validation and test must sum to 1 (they sum to {total:g})")
        if self.train == 0 or self.validation == 0:
            raise _refused("train and validation must have more than 0 of the rows")
        return self


class CheckSpec(Spec):
    missing_ratio: Ratio = 0.01
    """Largest share of rows that cannot be read before the run is refused; they are quarantined and listed."""
    classes: Literal["stable", "any"] = "any"
    """`stable` refuses classes that the champion does not know, and the loss of one that it knows."""
    max_pixels: Annotated[int, Field(gt=0, le=1_000_000_000)] = 25_000_000
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

    @model_validator(mode="after")
    def _has_test_rows(self) -> Self:
        if self.split.test == 0 and self.test is None:
            raise _refused("split.test is 0 and there is no data.test, so nothing would be left to evaluate on")
        return self


class SearchSpec(Spec):
    trials: Annotated[int, Field(ge=1, le=10_000)] = 8
    epochs: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Longest trial; default a third of `train.epochs`."""
    space: dict[Metric, Annotated[dict[str, JsonValue], _accepted_by(search_range)]] = {}
    """Parameter -> one of `{log: [low, high]}`, `{uniform: [low, high]}`, `{int: [low, high]}`, `{choice: [...]}`."""
    metric: Metric = "accuracy"
    concurrent: Annotated[int, Field(ge=1, le=1024)] = 2
    time_limit_s: Seconds | None = None


class TrainSpec(Spec):
    framework: Literal["torch"] = "torch"
    model: Annotated[str, StringConstraints(min_length=1, max_length=128)] = "small_cnn"
    """`small_cnn`, `resnet9`, `torchvision:NAME`, or `own` for the app's `build_model`."""
    epochs: Annotated[int, Field(ge=1, le=100_000)] = 10
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] = 128
    lr: Annotated[float, Field(gt=0, le=1e12)] = 0.01
    """Peak of the one-cycle schedule."""
    weight_decay: Annotated[float, Field(ge=0, le=1e6)] = 5e-4
    optimizer: Literal["sgd", "adamw"] = "sgd"
    label_smoothing: Ratio = 0.0
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    params: dict[str, JsonValue] = {}
    """Options of the model: `width`, `dropout`..."""
    workers: Literal["auto"] | Annotated[int, Field(ge=1, le=4096)] = "auto"
    devices: Devices = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    time_limit_s: Seconds | None = None
    """Training ends after the epoch in which this is reached; the schedule is fitted to it."""
    max_failures: Annotated[int, Field(ge=0, le=1000)] = 5
    """Crashed worker groups that are restarted from the last checkpoint before the step fails."""


class MarginsSpec(Spec):
    """Harm beyond these stops a release; a step is passed once harm is known to be below them."""

    errors: Percentage = "0.5%"
    """Points by which the share of failed requests may rise."""
    latency: Percentage = "15%"
    """By which the median may be longer."""
    disagreement: Percentage = "2%"
    """Points of answers that differ from stable's, beyond what the test rows let expect."""
    quality: Percentage = "2%"
    """Points by which the share of wrong answers may rise, where labels are sent back."""


class ReleaseSpec(Spec):
    steps: Annotated[tuple[str, ...], _accepted_by(release_weights)] = ("shadow", "1%", "10%", "50%", "100%")
    """`shadow` and rising percentages that end at 100%. The first release of a system goes to 100% at once."""
    false_alarms: Percentage = "5%"
    """Of harmless releases, those that may be stopped; of all guards together, however often they are asked."""
    margins: MarginsSpec = MarginsSpec()
    on_fail: Literal["rollback", "pause"] = "rollback"
    """`pause` gives the traffic back and keeps the candidate running, to be looked at."""
    min_bake: Duration = "30s"
    """Shortest time at a step."""
    max_bake: Duration = "1h"
    """After it a step that raised no alarm is passed without proof, where `unproven` says so."""
    unproven: Literal["hold", "pass"] = "hold"
    patience: Duration = "1d"
    """Longest time at a step: one that is neither proven nor approved by then gives the traffic back."""
    keep_warm: Duration = "2h"
    """How long the replaced revision goes on running, so that a rollback takes no time."""
    watch: Duration = "2h"
    """How long a promoted version is watched for errors, wrong answers and memory that begin later."""
    on_degrade: Literal["rollback", "alarm"] = "rollback"
    """What such harm leads to; `alarm` only says it."""

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if percent(self.false_alarms) == 0:
            raise _refused("false_alarms must be more than 0%, as no test can promise never to err")
        shortest, longest, patience = (duration_s(d) for d in (self.min_bake, self.max_bake, self.patience))
        if not shortest <= longest <= patience:
            raise _refused("min_bake, max_bake and patience must rise in this order")
        return self


class SloSpec(Spec):
    p99_ms: Annotated[float, Field(gt=0, le=MOST_DURATION_S * 1000)] = 250.0
    errors: Percentage = "0.1%"


class ServeSpec(Spec):
    replicas: tuple[Annotated[int, Field(ge=1, le=10_000)], Annotated[int, Field(ge=1, le=10_000)]] = (1, 1)
    """Lower and upper bound of autoscaling on items in flight."""
    cpus: Annotated[float, Field(ge=0, le=1024)] = 0.1
    """Logical CPUs that Ray reserves a replica."""
    threads: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] = "auto"
    batch: Annotated[int, Field(ge=1, le=1024)] = 64
    """Most items that travel together to a replica."""
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 10.0
    max_queue: Annotated[int, Field(ge=1, le=1_000_000)] = 512
    """Items waiting at one gateway before it answers 503."""
    max_body_bytes: Annotated[int, Field(ge=1, le=1024**3)] = 10 * 1024 * 1024
    max_items: Annotated[int, Field(ge=1, le=100_000)] = 256
    """Most images of one request."""
    max_pixels: Annotated[int, Field(gt=0, le=1_000_000_000)] = 25_000_000
    """Of one image, checked in its header before it is decoded."""
    max_requests_per_s: Annotated[float, Field(gt=0, le=1_000_000)] | None = None
    """Of one key at one gateway; above it the answer is 429."""
    runtime: Literal["auto", "onnx", "torch"] = "auto"
    slo: SloSpec = SloSpec()

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        low, high = self.replicas
        if low > high:
            raise _refused(f"replicas must be [lower, upper] (got {low} above {high})")
        if self.slo.p99_ms > 1000 * self.timeout_s:
            raise _refused(
                f"slo.p99_ms {self.slo.p99_ms:g} is longer than timeout_s {self.timeout_s:g} lets a request live"
            )
        return self


class WatchSpec(Spec):
    drift: Literal["auto", "off"] = "auto"
    retrain: bool = False
    cooldown: Duration = "6h"


class HealthSpec(Spec):
    drain: Literal["expected_cost", "never"] = "expected_cost"
    budget: Percentage = "10%"


class EnvironmentSpec(Spec):
    approve: tuple[str, ...] = ()
    """One of these must approve before a candidate has traffic."""
    tree: Literal["auto", "clean", "any"] = "auto"
    """`clean` refuses releases from a tree that its revision does not give again: changed, mixed, switched, sparse.
    `auto` is that for `production`, where the spec names it, and `any` elsewhere."""


Command = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,1000}$")]
"""One line of a shell."""


class CiSpec(Spec):
    """What `platformops ci write` puts into the pipeline files of CI systems."""

    branch: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,99}$")] = "main"
    """Only its commits go on to an environment."""
    image: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][A-Za-z0-9._/:@-]{0,254}$")] = (
        "python:3.11-slim-bookworm"
    )
    """Container of the jobs where a system has such."""
    install: tuple[Command, ...] = ("python -m pip install --quiet platformops",)
    lint: tuple[Command, ...] = ()
    test: tuple[Command, ...] = ()
    """JUnit files that these leave in `.platformops/reports/` are shown by the CI system."""
    secrets: tuple[Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]{0,63}$")], ...] = (
        "PLATFORMOPS_STORE", "PLATFORMOPS_ARTIFACTS", "RAY_ADDRESS", "RAY_AUTH_TOKEN",
    )  # fmt: skip
    """Variables that jobs get from the CI system's own secret store."""
    requests: Annotated[int, Field(ge=1, le=100_000)] = 200
    """Of the smoke and load test."""
    timeout: Duration = "6h"
    """Of one job."""


class StageSpec(Spec):
    """A stage of the user's own: `uses: module:function` takes a StageContext and `with` as keyword arguments."""

    name: Name
    uses: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$", max_length=200)]
    needs: tuple[Name, ...] = ()
    with_: dict[str, JsonValue] = Field(default={}, alias="with")
    sources: tuple[str, ...] = ()
    """Files or URIs whose bytes are part of the stage's identity."""
    retries: Annotated[int, Field(ge=0, le=100)] = 0
    timeout_s: Seconds | None = None


class PlatformSpec(Spec):
    """One system. `app`, `data` and `gates` go together; a spec of `stages` alone is a pipeline without a model."""

    system: Name
    purpose: str = ""
    """For people, on the model card: what the model is for and what it is not for."""
    app: str | None = None
    """A built-in (`image`) or a path to a Python file with the same functions (`./app.py`)."""
    data: DataSpec | None = None
    search: SearchSpec | None = None
    train: TrainSpec = TrainSpec()
    gates: dict[Metric, str] = {}
    """Metric -> condition: `">= 0.95"`, `"<= 80"`, `">= champion - 0.01 at 95%"`; `parity` -> `exact` or a
    tolerance."""
    stages: tuple[StageSpec, ...] = ()
    release: ReleaseSpec = ReleaseSpec()
    serve: ServeSpec = ServeSpec()
    watch: WatchSpec = WatchSpec()
    health: HealthSpec = HealthSpec()
    environments: dict[Name, EnvironmentSpec] = {}
    ci: CiSpec = CiSpec()
