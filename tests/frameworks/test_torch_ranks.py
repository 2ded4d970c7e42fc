"""Two real processes fit one model together: they agree on weights, and on when to end."""

import os
import subprocess
import sys

import pytest
from safetensors.torch import load_file

SCRIPT = """
import sys
from pathlib import Path
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
from platformops.apps.contract import ModelParams
from platformops.apps.load import load_app
from platformops.apps.prepared import open_prepared
from platformops.clock import SystemClock
from platformops.frameworks.torch import World, fit
from platformops.spec.types import TrainSpec

rank, rendezvous, data, output, stop_rank = int(sys.argv[1]), *sys.argv[2:5], int(sys.argv[5])
torch.set_num_threads(1)
distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
dataset = open_prepared(Path(data))
params = ModelParams("resnet9", dataset.input_shape, dataset.classes, dataset.mean, dataset.std,
                     {"width": 8, "deep": 16, "averaging": "lookahead"})
def save(checkpoint):
    folder = Path(output) / f"rank{rank}"
    folder.mkdir(exist_ok=True)
    checkpoint.write(folder)
settings = TrainSpec(epochs=3, batch_size=32, lr=0.3, precision="float32")
fitted = fit(load_app("image", Path(".")), dataset, params, settings,
             clock=SystemClock(), world=World(rank, 2), wrap=DistributedDataParallel, save_checkpoint=save,
             should_stop=lambda: rank == stop_rank)
print(fitted.finished, len(fitted.history), fitted.history[-1].accuracy if fitted.history else None)
distributed.destroy_process_group()
"""


def run_ranks(tmp_path, dataset, stop_rank: int) -> list[str]:
    command = [str(tmp_path / "meet"), str(dataset.directory), str(tmp_path), str(stop_rank)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(rank), *command], stdout=subprocess.PIPE, text=True, env=environment
        )
        for rank in (0, 1)
    ]
    answers = [rank.communicate(timeout=120)[0].strip() for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0]
    return answers


@pytest.mark.real
def test_two_ranks_end_with_the_same_weights_and_accuracy(dataset, tmp_path):
    answers = run_ranks(tmp_path, dataset, stop_rank=-1)
    assert answers[0] == answers[1]
    assert answers[0].startswith("True 3")
    first, second = (load_file(tmp_path / f"rank{rank}" / "training.safetensors") for rank in (0, 1))
    trained = [name for name in first if name.startswith("model.") and "running" not in name and "num_" not in name]
    assert trained
    assert all((first[name] == second[name]).all() for name in trained)


@pytest.mark.real
def test_when_one_rank_must_stop_both_stop_with_a_checkpoint(dataset, tmp_path):
    answers = run_ranks(tmp_path, dataset, stop_rank=1)
    assert answers == ["False 0 None"] * 2
    assert (tmp_path / "rank0" / "training.json").exists()
