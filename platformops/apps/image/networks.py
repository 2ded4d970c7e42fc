"""The image networks: small convolutional ones of our own, and torchvision's by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import cast

from torch import Tensor, nn

from platformops.apps.contract import ModelParams
from platformops.apps.image.layers import Flipped, ImageNetwork, Normalized, Pool, Scaled, Stage, Whitening
from platformops.errors import AppError
from platformops.store.records import Json

TORCHVISION = "torchvision:"
OPTIONS: Mapping[str, frozenset[str]] = {
    "small_cnn": frozenset({"width", "dropout"}),
    "resnet9": frozenset({"width", "deep", "dropout", "stem", "flip"}),
    TORCHVISION: frozenset({"flip"}),
}
"""Network -> what `train.params` may set of it."""


def build(params: ModelParams) -> nn.Module:
    """See `platformops.apps.image.build_model`."""
    kind = TORCHVISION if params.model.startswith(TORCHVISION) else params.model
    if kind == "own":
        raise AppError("train.model is `own` and the app has no build_model", remedy="write build_model in app.py")
    if kind not in BUILDERS:
        near = difflib.get_close_matches(kind, BUILDERS, n=1)
        raise AppError(
            f"unknown model {params.model!r}",
            remedy=f"did you mean {near[0]!r}?" if near else "small_cnn, resnet9, torchvision:NAME, or own",
        )
    if unknown := sorted(set(params.options) - OPTIONS[kind]):
        raise AppError(
            f"train.params.{unknown[0]}: {params.model} has no such option", remedy=f"one of {sorted(OPTIONS[kind])}"
        )
    network = BUILDERS[kind](params)
    if params.options.get("flip", False):
        network = Flipped(network)
    return ImageNetwork(Normalized(params.mean, params.std), network)


def small_cnn(params: ModelParams) -> nn.Module:
    """Three stages of two 3x3 convolutions, each halving the image: about 290,000 weights at width 32."""
    width, channels = _number(params, "width", 32), params.input_shape[2]
    widths = (width, 2 * width, 4 * width)
    layers: list[nn.Module] = []
    for inputs, outputs in zip((channels, *widths), widths, strict=False):
        layers += [*_convolution(inputs, outputs), *_convolution(outputs, outputs), nn.MaxPool2d(2, ceil_mode=True)]
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(_ratio(params)), nn.Linear(widths[-1], _out(params))
    )


def resnet9(params: ModelParams) -> nn.Module:
    """A fast network for small images: whitened 2x2 patches, then three stages (`width`, `deep`, `deep` channels).

    `stem` (default 1) shrinks larger images by that factor first. About 2,000,000 weights at 64 and 256.
    """
    width, deep, stem = _number(params, "width", 64), _number(params, "deep", 256), _number(params, "stem", 1)
    first = Whitening(params.input_shape[2], size=2 * stem, stride=stem)
    return nn.Sequential(
        first,
        nn.GELU(),
        Stage(first.out_channels, width),
        Stage(width, deep),
        Stage(deep, deep),
        Pool(),
        nn.Dropout(_ratio(params)),
        nn.Linear(deep, _out(params), bias=False),
        Scaled(1 / 9),
    )


def torchvision_network(params: ModelParams) -> nn.Module:
    """An architecture of torchvision with random weights, which sees grey images as colour."""
    from torchvision import models

    name = params.model.removeprefix(TORCHVISION)
    if name not in models.list_models(models):
        near = difflib.get_close_matches(name, models.list_models(models), n=1)
        raise AppError(
            f"torchvision has no classifier {name!r}", remedy=f"did you mean {near[0]!r}?" if near else "check its name"
        )
    network = cast(nn.Module, models.get_model(name, weights=None, num_classes=_out(params)))
    return nn.Sequential(_Colour(), network) if params.input_shape[2] == 1 else network


BUILDERS: Mapping[str, Callable[[ModelParams], nn.Module]] = {
    "small_cnn": small_cnn,
    "resnet9": resnet9,
    TORCHVISION: torchvision_network,
}


class _Colour(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.expand(-1, 3, -1, -1)


def _convolution(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


def _out(params: ModelParams) -> int:
    return len(params.classes)


def _number(params: ModelParams, option: str, default: int) -> int:
    value: Json = params.options.get(option, default)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 4096:
        raise AppError(f"train.params.{option}: a whole number from 1 to 4096 (got {value!r})")
    return value


def _ratio(params: ModelParams) -> float:
    value = params.options.get("dropout", 0.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise AppError(f"train.params.dropout: a number from 0 to below 1 (got {value!r})")
    return float(value)
