"""The image application: photographs in, one of a set of classes out."""

from __future__ import annotations

from platformops.apps.image.answering import encode, score
from platformops.apps.image.decoding import decode
from platformops.apps.image.modelling import build_model
from platformops.apps.image.operations import operations, settle
from platformops.apps.image.sources import parts, rows
from platformops.apps.image.transforming import augment, transform

__all__ = [
    "augment",
    "build_model",
    "decode",
    "encode",
    "operations",
    "parts",
    "rows",
    "score",
    "settle",
    "transform",
]
