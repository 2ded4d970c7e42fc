"""Only a sound safetensors file passes: everything else is refused by its header and size, quickly."""

import io
import json
import pickle
import struct
import zipfile

import numpy as np
import pytest
import torch
from safetensors.numpy import save
from safetensors.torch import save_file

from platformops.errors import ArtifactCorrupt
from platformops.frameworks.weights import check_weights

SOUND = {"layer.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "layer.count": np.array(3, dtype=np.int64)}


def file_of(header: object, data: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(dtype: str, shape: list[int], start: int, stop: int) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


def refused(tmp_path, content: bytes) -> str:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ArtifactCorrupt) as error:
        check_weights(path)
    assert "model.safetensors" in str(error.value)
    return str(error.value)


def test_a_sound_file_is_described(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(save(SOUND, metadata={"format": "pt"}))
    assert check_weights(path) == {"layer.weight": ("F32", (2, 3)), "layer.count": ("I64", ())}


@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int8, torch.bool])
def test_every_type_that_torch_writes_is_read(tmp_path, kind):
    save_file({"a": torch.ones(3, 2).to(kind), "empty": torch.zeros(0, 4)}, tmp_path / "model.safetensors")
    assert check_weights(tmp_path / "model.safetensors")["a"][1] == (3, 2)


def test_a_torch_pickle_is_refused(tmp_path):
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(3)}, buffer)
    refused(tmp_path, buffer.getvalue())


def test_a_plain_pickle_is_refused_and_not_run(tmp_path):
    class Harm:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    refused(tmp_path, pickle.dumps(Harm()))
    assert not (tmp_path / "ran").exists()


def test_a_zip_and_an_array_of_objects_are_refused(tmp_path):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("archive/data.pkl", b"x" * 100)
    refused(tmp_path, archive.getvalue())
    array = io.BytesIO()
    np.save(array, np.array([{}], dtype=object), allow_pickle=True)
    refused(tmp_path, array.getvalue())


def _torchscript(path):
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), path)


def _joblib(path):
    import joblib

    joblib.dump({"a": [1, 2]}, path)


def _keras(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("config.json", '{"class_name": "Lambda", "config": {"function": "gASV"}}')


def _claiming(path):
    """1,570 bytes that stand for four gigabytes: one number, read over and over with a stride of nothing."""
    torch.save(torch.zeros(1).expand(1_000_000_000), path)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("write", [_torchscript, _joblib, _keras, _claiming], ids=lambda write: write.__name__)
def test_models_in_formats_that_hold_code_are_refused(tmp_path, write):
    write(tmp_path / "other")
    refused(tmp_path, (tmp_path / "other").read_bytes())


@pytest.mark.parametrize("length", [0, 7, 8, 20, -1])
def test_a_cut_file_is_refused(tmp_path, length):
    refused(tmp_path, save(SOUND)[:length])


def test_trailing_bytes_are_refused(tmp_path):
    assert "tensors cover" in refused(tmp_path, save(SOUND) + b"x")


def test_a_header_above_four_mebibytes_is_refused(tmp_path):
    refused(tmp_path, file_of(b"{" + b" " * (5 * 1024 * 1024) + b"}", b""))


def test_a_header_of_a_hundred_megabytes_is_refused_by_its_claim(tmp_path):
    refused(tmp_path, struct.pack("<Q", 100_000_000) + b"{}")


def test_too_many_tensors_are_refused(tmp_path):
    header = {f"t{n}": entry("U8", [0], 0, 0) for n in range(20_001)}
    assert "20000" in refused(tmp_path, file_of(header, b""))


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        (entry("F32", [1_000_000_000], 0, 4_000_000_000), "tensors cover"),
        (entry("F32", [1_000_000_000], 0, 8), "does not fit its 8 bytes"),
        (entry("F32", [2**40, 2**40, 2**40], 0, 8), "does not fit"),
        (entry("F32", [3], 0, 8), "does not fit"),
        (entry("F32", [-2], 0, 8), "no sound shape"),
        (entry("F32", [True, 2], 0, 8), "no sound shape"),
        (entry("F32", [2.0], 0, 8), "no sound shape"),
        (entry("F32", [1] * 17 + [2], 0, 8), "no sound shape"),
        (entry("F32", [2], 8, 0), "does not fit"),
        (entry("F32", [1], 4, 8), "a gap or an overlap"),
        (entry("F32", [1], 0, 4), "tensors cover 4"),
        (entry("C128", [2], 0, 8), "has type"),
        ({"dtype": "F32", "shape": [2]}, "is not described"),
        ({**entry("F32", [2], 0, 8), "more": 1}, "is not described"),
        ([], "is not described"),
    ],
)
def test_a_tensor_that_does_not_fit_its_bytes_is_refused(tmp_path, tensor, reason):
    assert reason in refused(tmp_path, file_of({"a": tensor}, b"\0" * 8))


def test_overlapping_tensors_are_refused(tmp_path):
    header = {"a": entry("F32", [2], 0, 8), "b": entry("F32", [2], 0, 8)}
    assert "overlap" in refused(tmp_path, file_of(header, b"\0" * 8))


@pytest.mark.parametrize("name", ["../up", "a/b", "", "a..b", "x" * 600, "a b", "ä", "a\n"])
def test_an_odd_name_is_refused(tmp_path, name):
    assert "no name of a tensor" in refused(tmp_path, file_of({name: entry("F32", [2], 0, 8)}, b"\0" * 8))


def test_a_doubled_name_is_refused(tmp_path):
    one = json.dumps(entry("F32", [2], 0, 8))
    assert "twice" in refused(tmp_path, file_of(f'{{"a": {one}, "a": {one}}}'.encode(), b"\0" * 8))


@pytest.mark.parametrize("header", [b"[]", b"3", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_header_that_is_no_mapping_is_refused(tmp_path, header):
    refused(tmp_path, file_of(header, b""))


@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_no_numbers_are_refused(tmp_path, kind, value):
    weights = torch.zeros(5000)
    weights[4321] = value
    save_file({"a": weights.to(kind)}, tmp_path / "model.safetensors")
    with pytest.raises(ArtifactCorrupt, match="tensor a has values"):
        check_weights(tmp_path / "model.safetensors")
