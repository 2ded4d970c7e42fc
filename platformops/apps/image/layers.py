"""The layers that the image networks are made of."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

WHITENING_EPS = 5e-4
"""Added to the variance of a direction: the quietest ones are noise, which would else be as loud as the image."""


CALIBRATION_CHUNK_ROWS = 64
"""A patch of 4x4 pixels takes 8 x 48 bytes and an image has thousands: all at once would be gigabytes."""


class Normalized(nn.Module):
    """uint8 (rows, height, width, channels) -> standardised float (rows, channels, height, width), channels last."""

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("scale", 1 / (255 * torch.tensor(std, dtype=torch.float32)))
        self.register_buffer("shift", -torch.tensor(mean, dtype=torch.float32) / torch.tensor(std, dtype=torch.float32))

    def forward(self, batch: Tensor) -> Tensor:
        # The permuted batch already lies in memory as channels-last convolutions want it.
        return (batch.to(torch.float32) * self.scale + self.shift).permute(0, 3, 1, 2)


class ImageNetwork(nn.Module):
    """uint8 (rows, height, width, channels) -> logits: normalisation, then the network."""

    def __init__(self, normalized: Normalized, network: nn.Module) -> None:
        super().__init__()
        self.normalized, self.network = normalized, network

    def forward(self, batch: Tensor) -> Tensor:
        logits: Tensor = self.network(self.normalized(batch))
        return logits

    def calibrate(self, batch: Tensor) -> None:
        """Lets layers that learn from the images themselves do so, before training."""
        for layer in self.network.modules():
            if isinstance(layer, Whitening):
                layer.calibrate(self.normalized(batch))


class Flipped(nn.Module):
    """Mean logits of an image and its mirror image; only the image itself while training."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        if self.training:
            return logits
        mirrored: Tensor = self.network(images.flip(3))
        return (logits + mirrored) / 2


class Whitening(nn.Module):
    """Small patches -> uncorrelated directions of equal variance and their opposites; found once, then fixed.

    Until `calibrate` has seen images it is a convolution with random weights.
    """

    weight: Tensor

    def __init__(self, channels: int, *, size: int, stride: int = 1) -> None:
        super().__init__()
        self.size, self.stride = size, stride
        directions = min(channels * size * size, 24)
        self.out_channels = 2 * directions
        self.register_buffer("weight", torch.randn(self.out_channels, channels, size, size) / (channels * size * size))
        self.bias = nn.Parameter(torch.zeros(self.out_channels))

    def forward(self, images: Tensor) -> Tensor:
        return functional.conv2d(images, self.weight, self.bias, stride=self.stride)

    @torch.no_grad()
    def calibrate(self, images: Tensor) -> None:
        """Sets the weights from patches of normalised images (rows, channels, height, width)."""
        width, num_patches = images.shape[1] * self.size**2, 0
        products = torch.zeros(width, width, dtype=torch.float64)
        for some in torch.split(images, CALIBRATION_CHUNK_ROWS):
            patches = functional.unfold(some, self.size, stride=self.stride).transpose(1, 2).reshape(-1, width).double()
            products += patches.T @ patches
            num_patches += len(patches)
        variances, directions = torch.linalg.eigh(products / num_patches)
        loudest = torch.arange(len(variances) - 1, len(variances) - 1 - self.out_channels // 2, -1)
        scaled = directions[:, loudest] / torch.sqrt(variances[loudest] + WHITENING_EPS)
        kernels = scaled.T.reshape(-1, *self.weight.shape[1:]).to(self.weight.dtype)
        self.weight.copy_(torch.cat([kernels, -kernels]))


class Stage(nn.Module):
    """Two 3x3 convolutions with normalisation, the first followed by halving the image."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first, self.second = _identity_convolution(inputs, outputs), _identity_convolution(outputs, outputs)
        self.first_norm, self.second_norm = _shift_only(outputs), _shift_only(outputs)

    def forward(self, images: Tensor) -> Tensor:
        images = self.first(images)
        # A single row or column is kept; else an odd last one is dropped, which saves a quarter of the work behind it.
        halved = functional.max_pool2d(images, 2, ceil_mode=min(images.shape[2:]) < 2)
        images = functional.gelu(self.first_norm(halved))
        return functional.gelu(self.second_norm(self.second(images)))


class Pool(nn.Module):
    """The loudest place of each channel: (rows, channels)."""

    def forward(self, images: Tensor) -> Tensor:
        return images.amax(dim=(2, 3))


class Scaled(nn.Module):
    """Logits times a fixed factor, which keeps the first losses small."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, logits: Tensor) -> Tensor:
        return logits * self.factor


def _identity_convolution(inputs: int, outputs: int) -> nn.Conv2d:
    """Starts by passing its inputs through, so that signals reach every layer from the first step on."""
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    with torch.no_grad():
        nn.init.dirac_(convolution.weight[:inputs])
    return convolution


def _shift_only(channels: int) -> nn.BatchNorm2d:
    """Batch normalisation with statistics over the last few batches; its gain is fixed, which a max pool needs."""
    norm = nn.BatchNorm2d(channels, momentum=0.4)
    assert norm.weight is not None
    norm.weight.requires_grad_(False)
    return norm
