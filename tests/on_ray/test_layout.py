"""How training workers are laid out on what a cluster has."""

import re

import pytest

from platformops.errors import ClusterError
from platformops.on_ray.layout import training_layout
from platformops.on_ray.tickets import Capacity, task_cpus

LAPTOP = [Capacity(cpus=2, gpus=0, free_cpus=1.9)]


def test_a_laptop_gets_one_worker_that_computes_on_all_cores_and_reserves_one():
    layout = training_layout(LAPTOP, workers="auto", devices="auto", num_rows=1_000_000)
    assert (layout.num_workers, layout.threads) == (1, 2)
    assert layout.cpus_per_worker <= 1.0


def test_small_data_is_not_spread_over_nodes():
    layout = training_layout([*LAPTOP, *LAPTOP], workers="auto", devices="auto", num_rows=1_000)
    assert layout.num_workers == 1
    assert "1000 rows" in layout.reason


def test_large_data_gets_a_worker_a_node():
    assert training_layout([*LAPTOP, *LAPTOP], workers="auto", devices="cpu", num_rows=60_000).num_workers == 2


def test_two_workers_on_one_node_share_its_cores():
    layout = training_layout(LAPTOP, workers=2, devices="cpu", num_rows=10)
    assert (layout.num_workers, layout.threads) == (2, 1)
    assert layout.num_workers * layout.cpus_per_worker <= 1.9


def test_gpus_are_used_when_present_and_refused_when_wished_for_in_vain():
    with_gpus = [Capacity(8, 4, 8)]
    assert training_layout(with_gpus, workers="auto", devices="auto", num_rows=10).num_workers == 4
    assert not training_layout(with_gpus, workers="auto", devices="cpu", num_rows=10).use_gpu
    with pytest.raises(ClusterError, match="the cluster has none"):
        training_layout(LAPTOP, workers="auto", devices="gpu", num_rows=10)


def test_more_workers_than_the_cluster_can_ever_place_are_refused_with_the_figures():
    with pytest.raises(ClusterError, match=re.escape("train.workers is 9 and the cluster has 2 CPUs")):
        training_layout(LAPTOP, workers=9, devices="cpu", num_rows=10)


def test_a_cluster_without_cpus_is_refused():
    with pytest.raises(ClusterError, match="no CPU"):
        training_layout([Capacity(0, 0, 0)], workers="auto", devices="cpu", num_rows=10)


@pytest.mark.parametrize(
    ("nodes", "ticket"),
    [
        ([Capacity(2, 0, 2.0)], 1.0),
        ([Capacity(2, 0, 1.9)], 0.9),
        ([Capacity(2, 0, 1.3)], 0.5),
        ([Capacity(1, 0, 0.9), Capacity(1, 0, 1.0)], 0.9),
        ([Capacity(2, 0, 0.3)], 0.25),
    ],
)
def test_as_many_tasks_run_as_there_are_cpus_beside_what_is_reserved(nodes, ticket):
    assert task_cpus(nodes) == ticket


def test_a_cluster_whose_cpus_are_all_held_is_refused_with_the_figures_instead_of_waited_for():
    with pytest.raises(ClusterError, match=re.escape("has 0.1 of 2 CPUs free")):
        task_cpus([Capacity(2, 0, 0.1)])


def test_steps_on_tiny_images_are_computed_on_one_thread():
    tiny = training_layout(LAPTOP, workers="auto", devices="cpu", num_rows=10, values_a_step=64 * 8 * 8)
    large = training_layout(LAPTOP, workers="auto", devices="cpu", num_rows=10, values_a_step=512 * 32 * 32 * 3)
    assert (tiny.threads, large.threads) == (1, 2)
