"""Options of fitting that `train.params` may set beside those of the model."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Literal

from platformops.apps.contract import ModelParams
from platformops.errors import AppError
from platformops.store.records import Json

Averaging = Literal["off", "ema", "lookahead"]
AVERAGING: tuple[Averaging, ...] = ("off", "ema", "lookahead")


@dataclass(frozen=True, slots=True)
class FitOptions:
    momentum: float = 0.9
    warmup: float = 0.2
    """Share of the training in which the learning rate rises."""
    last_rate: float = 0.02
    """Learning rate at the end as a share of its peak."""
    bias_rate: float = 1.0
    """Learning rate of biases and shifts as a multiple of that of weights."""
    averaging: Averaging = "off"
    """`ema` evaluates a moving mean of the weights; `lookahead` also pulls the weights to it every few steps."""


def split_options(params: ModelParams) -> tuple[FitOptions, ModelParams]:
    """The options of fitting in `params.options`, and the params without them, as the app's build_model gets them."""
    ours = {field.name for field in fields(FitOptions)}
    chosen = {name: value for name, value in params.options.items() if name in ours}
    for name, value in chosen.items():
        if problem := _problem(name, value):
            raise AppError(f"train.params.{name}: {problem} (got {value!r})")
    rest = {name: value for name, value in params.options.items() if name not in ours}
    return FitOptions(**chosen), replace(params, options=rest)  # type: ignore[arg-type]


def _problem(name: str, value: Json) -> str:
    if name == "averaging":
        return "" if value in AVERAGING else f"one of {list(AVERAGING)}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "a number"
    highest = 1000.0 if name == "bias_rate" else 1.0
    return "" if 0 <= value < highest else f"from 0 to below {highest:g}"
