"""Writes a fitted model: weights as safetensors, its description as JSON, and ONNX where that answers alike."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from platformops.apps.contract import Batch, ModelParams, Operation, Outputs
from platformops.apps.prepared import declared
from platformops.frameworks.predictor import DESCRIPTION, ONNX, WEIGHTS, description, open_predictor, softmax
from platformops.frameworks.records import Saved
from platformops.frameworks.weights import disk_errors
from platformops.store.trouble import NO_SPACE

TOLERANCE = 1e-3
"""Largest difference of a probability between runtimes; they sum in different orders."""


def write_model(
    model: nn.Module, params: ModelParams, operations: Sequence[Operation], app: str, directory: Path, *, rows: Batch
) -> Saved:
    """See `platformops.frameworks.torch.save_model`."""
    model = model.cpu().float().eval()
    tensors = {name: value.detach().contiguous() for name, value in model.state_dict().items()}
    with disk_errors(directory / WEIGHTS):
        save_file(tensors, directory / WEIGHTS)
    described = json.dumps(description(params, declared(operations), app), indent=1)
    (directory / DESCRIPTION).write_text(described + "\n", encoding="utf-8")
    reason = _export(model, directory, rows)
    difference = None if reason else _compare(model, directory, rows)
    if difference is None or difference > TOLERANCE:
        (directory / ONNX).unlink(missing_ok=True)
        reason = reason or "its answers differ from torch's" + (f" by {difference:.1e}" if difference else "")
    count = sum(parameter.numel() for parameter in model.parameters())
    return Saved(count, not reason, reason or f"largest difference of a probability: {difference:.1e}")


def _export(model: nn.Module, directory: Path, rows: Batch) -> str:
    """Writes the ONNX file; returns why it could not, empty when it could."""
    example = torch.from_numpy(np.ascontiguousarray(np.resize(rows, (2, *rows.shape[1:]))))
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                model,
                (example,),
                directory / ONNX,
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim("rows", min=1, max=65_536)},),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except Exception as exc:  # a user's own model may hold anything; torch serves it then
        if isinstance(exc, OSError) and exc.errno in NO_SPACE:
            raise
        return f"it cannot be exported: {type(exc).__name__}: {str(exc).splitlines()[0] if str(exc) else ''}"
    return ""


def _compare(model: nn.Module, directory: Path, rows: Batch) -> float | None:
    """The largest difference of a probability on `rows`, whole and one by one; None where a label differs."""
    exported = open_predictor(directory, runtime="onnx", threads=1, app=None)
    with torch.inference_mode():
        expected = softmax(model(torch.from_numpy(rows)).numpy())
    answers: list[Outputs] = [exported(rows), np.concatenate([exported(row[None]) for row in rows])]
    if any((answer.argmax(axis=1) != expected.argmax(axis=1)).any() for answer in answers):
        return None
    return max(float(np.abs(answer - expected).max()) for answer in answers)
