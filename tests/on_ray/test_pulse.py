"""What a rank says of its own steps: how many, and what of each was its own work."""

from contextlib import contextmanager

import pytest
import torch
import torch.distributed as distributed
import torch.multiprocessing as multiprocessing

from platformops.clock import ManualClock, SystemClock
from platformops.on_ray.pulse import Pulse, beats_in
from platformops.on_ray.stuck import Section
from platformops.on_ray.training_worker import _data_parallel

STEPS = 6
SLEEP_S = 0.3


def beat_of(folder):
    (beat,) = beats_in(folder).values()
    return beat


def test_what_a_step_takes_after_its_own_part_is_waiting_and_not_counted(tmp_path):
    clock = ManualClock(100.0)
    with Pulse(tmp_path, 0, clock) as pulse:
        for own_s in (1.0, 2.0):
            pulse.enter(Section.STEP)
            clock.sleep(own_s / 2)
            pulse.ready()
            clock.sleep(own_s / 2)
            pulse.ready()
            clock.sleep(5.0)
        pulse.enter(Section.VALIDATION)
        assert (beat_of(tmp_path).steps, beat_of(tmp_path).worked_s) == (2, 3.0)


def test_a_step_without_others_is_all_its_own(tmp_path):
    clock = ManualClock(100.0)
    with Pulse(tmp_path, 0, clock) as pulse:
        pulse.enter(Section.STEP)
        clock.sleep(4.0)
        pulse.enter(Section.VALIDATION)
        clock.sleep(9.0)
        pulse.ready()
        pulse.enter(Section.STEP)
        clock.sleep(2.0)
        pulse.enter(Section.FINISH)
    assert beat_of(tmp_path).worked_s == 6.0, "what was ready before a step is no part of it"


@contextmanager
def group(rank, size, meeting):
    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=size)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def _rank(rank, folder):
    torch.set_num_threads(1)
    with group(rank, 2, folder / "meeting"), Pulse(folder / str(rank), rank, SystemClock()) as pulse:
        torch.manual_seed(0)
        model = _data_parallel(pulse, torch.nn.Linear(8, 1))
        for step in range(STEPS):
            pulse.enter(Section.STEP)
            if rank == 1:
                SystemClock().sleep(SLEEP_S)
            loss = model(torch.full((4, 8), float(rank + step))).sum()
            model.zero_grad()
            loss.backward()
        pulse.enter(Section.FINISH)
        gradient = model.module.weight.grad
        assert gradient.tolist() == [[4.0 * (STEPS - 1 + 0.5)] * 8], "the mean of both ranks'"


@pytest.mark.real
def test_of_two_ranks_that_wait_for_one_another_the_one_that_works_longer_is_told_apart(tmp_path):
    for rank in ("0", "1"):
        (tmp_path / rank).mkdir()
    multiprocessing.spawn(_rank, (tmp_path,), nprocs=2)
    quick, late = (beat_of(tmp_path / rank) for rank in ("0", "1"))
    assert quick.steps == late.steps == STEPS
    assert late.worked_s >= STEPS * SLEEP_S
    assert late.worked_s > 2.0 * quick.worked_s
