"""Loads a saved model for serving and evaluation: by onnxruntime where there is an ONNX file, else by torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from platformops.apps.contract import App, Batch, ModelParams, Operation, Outputs
from platformops.apps.load import BUILT_IN, load_app
from platformops.apps.prepared import operations_from
from platformops.errors import AppError, ArtifactCorrupt, UserError
from platformops.frameworks.records import Predictor, Runtime
from platformops.frameworks.weights import check_weights

if TYPE_CHECKING:
    import torch

WEIGHTS, DESCRIPTION, ONNX = "model.safetensors", "model.json", "model.onnx"
FORMAT = 1
MAX_DESCRIPTION_BYTES = 4 * 1024 * 1024
MAX_ONNX_BYTES = 2 * 1024 * 1024 * 1024


def open_predictor(directory: Path, *, runtime: Runtime, threads: int, app: App | None) -> Predictor:
    """See `platformops.frameworks.torch.load_predictor`."""
    params, operations, app_ref = read_description(directory)
    check_weights(directory / WEIGHTS)
    has_onnx = (directory / ONNX).is_file()
    if runtime == "onnx" and not has_onnx:
        raise UserError(f"{directory} has no {ONNX}", remedy="serve it with runtime: auto or torch")
    chosen = "onnx" if has_onnx and runtime != "torch" else "torch"
    if chosen == "onnx":
        predict = _by_onnx(directory / ONNX, threads)
    else:
        predict = _by_torch(directory / WEIGHTS, params, _app_of(app_ref, app), threads)
    return Predictor(params, operations, app_ref, chosen, predict)


def read_description(directory: Path) -> tuple[ModelParams, tuple[Operation, ...], str]:
    """(params, operations, app reference) of `model.json`; raises ArtifactCorrupt where it is not as written."""
    path = directory / DESCRIPTION
    try:
        if path.stat().st_size > MAX_DESCRIPTION_BYTES:
            raise ValueError("too large")
        described = json.loads(path.read_text(encoding="utf-8"))
        if described["format"] != FORMAT:
            raise ValueError(f"format {described['format']!r} is not {FORMAT}")
        height, width, channels = described["input_shape"]
        params = ModelParams(
            model=described["model"],
            input_shape=(int(height), int(width), int(channels)),
            classes=tuple(described["classes"]),
            mean=tuple(described["mean"]),
            std=tuple(described["std"]),
            options=described["options"],
        )
        return params, operations_from(described["operations"]), described["app"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise ArtifactCorrupt(f"{path}: cannot be read: {type(exc).__name__}: {exc}") from exc


def softmax(logits: NDArray[np.floating]) -> Outputs:
    """Probabilities of logits (rows, classes)."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True), dtype=np.float32)
    return cast(Outputs, shifted / shifted.sum(axis=1, keepdims=True))


def load_weights(model: torch.nn.Module, path: Path) -> None:
    """Copies a checked safetensors file into the model; raises ArtifactCorrupt where names or shapes differ."""
    from safetensors.torch import load_file

    found = check_weights(path)
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    for name in sorted(wanted.keys() ^ found.keys()):
        raise ArtifactCorrupt(f"{path}: tensor {name} is {'missing' if name in wanted else 'not of this model'}")
    for name, shape in wanted.items():
        if found[name][1] != shape:
            raise ArtifactCorrupt(f"{path}: tensor {name} has shape {found[name][1]}, the model wants {shape}")
    model.load_state_dict(load_file(path))


def _app_of(reference: str, app: App | None) -> App:
    if app is not None:
        return app
    if reference in BUILT_IN:
        return load_app(reference, Path("."))
    raise AppError(f"the model was made with {reference}, which torch needs to build it", remedy="pass its app")


def _by_onnx(path: Path, threads: int) -> Callable[[Batch], Outputs]:
    import onnxruntime

    if path.stat().st_size > MAX_ONNX_BYTES:
        raise ArtifactCorrupt(f"{path}: is larger than an ONNX file can be")
    options = onnxruntime.SessionOptions()
    # Unpinned pools spin on every core: two replicas on two cores then answer 14 requests a second.
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except Exception as exc:  # onnxruntime raises classes of its own that share no base
        raise ArtifactCorrupt(f"{path}: cannot be loaded: {exc}") from exc
    name = session.get_inputs()[0].name
    return lambda batch: softmax(session.run(None, {name: batch})[0])


def _by_torch(path: Path, params: ModelParams, app: App, threads: int) -> Callable[[Batch], Outputs]:
    import torch

    from platformops.frameworks.torch_options import split_options

    torch.set_num_threads(threads)
    model = app.build_model(split_options(params)[1])
    load_weights(model, path)
    model.eval().to(memory_format=torch.channels_last)

    def predict(batch: Batch) -> Outputs:
        with torch.inference_mode():
            return softmax(model(torch.from_numpy(batch)).numpy())

    return predict


def description(params: ModelParams, operations: list[Any], app: str) -> Mapping[str, Any]:
    """What `model.json` holds."""
    return {
        "format": FORMAT,
        "app": app,
        "model": params.model,
        "input_shape": list(params.input_shape),
        "classes": list(params.classes),
        "mean": list(params.mean),
        "std": list(params.std),
        "options": dict(params.options),
        "operations": operations,
    }
