"""A saved model answers alike under both runtimes, and only what was saved is loaded."""

import dataclasses
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from platformops.apps.load import load_app
from platformops.clock import ManualClock
from platformops.errors import AppError, ArtifactCorrupt, UserError
from platformops.frameworks.torch import fit, load_predictor, save_model
from platformops.spec.types import TrainSpec

APP = load_app("image", Path("."))


@pytest.fixture(scope="module")
def saved(dataset, tmp_path_factory):
    from platformops.apps.contract import ModelParams

    directory = tmp_path_factory.mktemp("model")
    options = {"width": 8, "deep": 16, "flip": True, "averaging": "lookahead"}
    params = ModelParams("resnet9", dataset.input_shape, dataset.classes, dataset.mean, dataset.std, options)
    fitted = fit(APP, dataset, params, TrainSpec(epochs=3, batch_size=32, lr=0.3), clock=ManualClock())
    rows = dataset.splits["test"].images.slice(0, 40)
    outcome = save_model(fitted.model, params, dataset.operations, "image", directory, rows=rows)
    return directory, outcome, fitted.model, rows


@pytest.fixture
def copied(saved, tmp_path):
    return Path(shutil.copytree(saved[0], tmp_path / "model"))


def test_both_runtimes_answer_as_the_fitted_model_for_any_number_of_rows(saved):
    directory, outcome, model, rows = saved
    assert outcome.onnx, outcome.reason
    with torch.inference_mode():
        expected = torch.softmax(model(torch.from_numpy(rows)), dim=1).numpy()
    for runtime in ("onnx", "torch"):
        predictor = load_predictor(directory, runtime=runtime)
        assert predictor.runtime == runtime
        for count in (1, 2, 40):
            answer = predictor(rows[:count])
            assert answer.dtype == np.float32
            assert np.allclose(answer, expected[:count], atol=1e-4)
            assert np.allclose(answer.sum(axis=1), 1, atol=1e-5)


def test_auto_takes_onnx_and_torch_where_there_is_none(saved, copied):
    assert load_predictor(copied).runtime == "onnx"
    (copied / "model.onnx").unlink()
    assert load_predictor(copied).runtime == "torch"
    with pytest.raises(UserError, match=r"no model\.onnx"):
        load_predictor(copied, runtime="onnx")


def test_a_predictor_carries_what_serving_needs(saved, dataset):
    predictor = load_predictor(saved[0])
    assert predictor.classes == dataset.classes
    assert predictor.operations == dataset.operations
    assert predictor.app == "image"


def test_saving_leaves_weights_and_descriptions_only(saved):
    assert sorted(path.name for path in saved[0].iterdir()) == ["model.json", "model.onnx", "model.safetensors"]


def test_an_onnx_model_is_served_without_importing_torch(saved):
    script = (
        "import sys, numpy as np; from pathlib import Path\n"
        "from platformops.frameworks.torch import load_predictor\n"
        "from platformops.apps.load import load_app\n"
        "load_app('image', Path('.'))\n"
        f"load_predictor(Path({str(saved[0])!r}))(np.zeros((1, 8, 8, 3), np.uint8))\n"
        "print('torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=os.environ)
    assert ran.stdout.strip() == "False"


class Wavering(nn.Module):
    """Answers otherwise once traced: what an export of it would get wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        brightness = batch.float().mean(dim=(1, 2, 3))[:, None]
        direction = 1.0 if torch.compiler.is_exporting() else -1.0
        return brightness * self.weight * torch.tensor([0.0, direction, 2 * direction])


class Unexportable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        if batch.float().mean().item() > 1e9:
            raise ValueError
        return batch.numpy().mean(axis=(1, 2, 3))[:, None] * self.weight


@pytest.mark.parametrize(("model", "reason"), [(Wavering(), "differ"), (Unexportable(), "cannot be exported")])
def test_no_onnx_is_left_where_it_would_not_answer_alike(dataset, params, tmp_path, model, reason):
    rows = dataset.splits["test"].images.slice(0, 8)
    outcome = save_model(model, params, dataset.operations, "./app.py", tmp_path, rows=rows)
    assert not outcome.onnx
    assert reason in outcome.reason
    assert not (tmp_path / "model.onnx").exists()


def test_a_model_of_the_users_own_needs_its_app_under_torch(dataset, params, tmp_path):
    rows = dataset.splits["test"].images.slice(0, 8)
    save_model(Wavering(), params, dataset.operations, "./app.py", tmp_path, rows=rows)
    with pytest.raises(AppError, match=r"\./app\.py"):
        load_predictor(tmp_path)
    app = dataclasses.replace(APP, build_model=lambda _: Wavering())
    assert load_predictor(tmp_path, app=app)(rows).shape == (8, 3)


@pytest.mark.parametrize("runtime", ["onnx", "torch"])
def test_weights_that_were_replaced_by_a_pickle_are_refused_and_not_run(copied, tmp_path, runtime):
    class Harm:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    (copied / "model.safetensors").write_bytes(pickle.dumps(Harm()))
    with pytest.raises(ArtifactCorrupt, match=r"model\.safetensors"):
        load_predictor(copied, runtime=runtime)
    assert not (tmp_path / "ran").exists()


def test_weights_that_are_missing_too_many_or_of_another_shape_are_refused(copied):
    path = copied / "model.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if name.endswith("weight"))
    changed = {
        "missing": {key: value for key, value in tensors.items() if key != name},
        "not of this model": {**tensors, "more": torch.zeros(1)},
        "the model wants": {**tensors, name: torch.zeros(2, 2)},
    }
    for reason, content in changed.items():
        save_file(content, path)
        with pytest.raises(ArtifactCorrupt, match=reason):
            load_predictor(copied, runtime="torch")


@pytest.mark.parametrize("place", ["{folder}/weights.bin", "weights.bin", "../{name}/weights.bin"])
def test_an_onnx_that_reads_other_files_is_refused(copied, place):
    from onnx import TensorProto, helper

    (copied / "weights.bin").write_bytes(b"\0" * 8)
    tensor = TensorProto(name="w", data_type=1, dims=[1, 2], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=place.format(folder=copied, name=copied.name))
    images, logits = (helper.make_tensor_value_info(name, 1, ["rows", 2]) for name in ("images", "logits"))
    graph = helper.make_graph([helper.make_node("Add", ["images", "w"], ["logits"])], "g", [images], [logits], [tensor])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (copied / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ArtifactCorrupt, match=r"model\.onnx"):
        load_predictor(copied)


@pytest.mark.parametrize("content", [b"", b"not onnx", b"\x80\x04\x95"])
def test_what_is_no_onnx_is_refused(copied, content):
    (copied / "model.onnx").write_bytes(content)
    with pytest.raises(ArtifactCorrupt, match=r"model\.onnx"):
        load_predictor(copied)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"input_shape": [8, 8]},
        {"classes": 3},
        {"operations": 3},
        {"options": None, "model": None, "mean": 1},
    ],
)
def test_a_description_of_another_form_is_refused(copied, change):
    path = copied / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ArtifactCorrupt, match=r"model\.json"):
        load_predictor(copied)


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 100_000, b"\xff", b" " * (5 * 1024 * 1024)])
def test_a_description_that_is_no_json_is_refused(copied, content):
    (copied / "model.json").write_bytes(content)
    with pytest.raises(ArtifactCorrupt, match=r"model\.json"):
        load_predictor(copied)


def test_threads_are_pinned(saved):
    load_predictor(saved[0], runtime="torch", threads=1)
    assert torch.get_num_threads() == 1
