"""What `init` writes: one spec and one short app file, both meant to be changed."""

from __future__ import annotations

import json
import re

_PLAIN = re.compile(r"[A-Za-z0-9][\w./:*-]*", re.ASCII)
DIGITS = "sklearn://digits"
_PREPARE = {
    DIGITS: "[{resize: 8}, {normalize: auto}]",
    "": "[{resize: 64}, {crop: center}, {flip: horizontal}, {normalize: auto}]",
}

_SPEC = """\
# One system, from raw images to a live endpoint:  platformops up {file}
# Every key with its meaning:                      platformops schema
system: {name}
app: ./app.py                    # the image application, with functions of your own
data:
  source: {source}
  split: {{train: 0.7, validation: 0.15, test: 0.15}}
  prepare: {prepare}
train: {{model: small_cnn, epochs: 12}}
gates:                           # a model that misses one never gets traffic
  accuracy: ">= 0.9"
  recall_macro: ">= champion - 0.02 at 95%"
  parity: exact
serve: {{replicas: [1, 2]}}
"""

_APP = '''\
"""The functions that {name} does in its own way; each replaces the one of the built-in image application."""

from platformops.apps import image

BASE = "image"  # what this file does not define comes from there


def transform(images, operations):
    """A list of uint8 images -> one batch. Training, evaluation and serving all call this, so they cannot differ."""
    return image.transform(images, operations)


def build_model(params):
    """A torch module: uint8 (rows, height, width, channels) in, logits (rows, classes) out."""
    return image.build_model(params)
'''


def spec_text(name: str, *, file: str, source: str) -> str:
    """The YAML of an image system called `name`, to be kept in `file`."""
    written = source if _PLAIN.fullmatch(source) else json.dumps(source)
    return _SPEC.format(name=name, file=file, source=written, prepare=_PREPARE.get(source, _PREPARE[""]))


def app_text(name: str) -> str:
    """The Python file beside it."""
    return _APP.format(name=name)
