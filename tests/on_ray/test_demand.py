"""What a cluster can never place is refused with the figures."""

import json

import pytest

from platformops.errors import ClusterError
from platformops.on_ray.demand import check_demand
from platformops.on_ray.tickets import Capacity
from platformops.spec.types import PlatformSpec

LAPTOP = [Capacity(cpus=2, gpus=0, free_cpus=0.1)]


def spec(**sections):
    described = {"system": "digits", "app": "image", "data": {"source": "sklearn://digits"}}
    return PlatformSpec.model_validate_json(json.dumps(described | {"gates": {"accuracy": ">= 0.9"}} | sections))


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"train": {"workers": 3}}, "train.workers is 3 and the cluster has 2 CPUs"),
        ({"train": {"devices": "gpu"}}, "the cluster has none"),
        ({"serve": {"replicas": [3, 4], "cpus": 1}}, "at least 3 of 1 CPUs each, and the cluster has room for 2"),
        ({"serve": {"replicas": [1, 1], "cpus": 4}}, "room for 0: 2 CPUs on 1 node"),
    ],
)
def test_more_than_the_cluster_has_is_refused_with_the_figures(section, said):
    with pytest.raises(ClusterError, match=said):
        check_demand(spec(**section), LAPTOP, is_served=True)


def test_replicas_are_placed_whole_on_nodes_and_not_on_the_sum_of_them():
    two = [*LAPTOP, *LAPTOP]
    check_demand(spec(serve={"replicas": [2, 2], "cpus": 1.5}), two, is_served=True)
    with pytest.raises(ClusterError, match="room for 2"):
        check_demand(spec(serve={"replicas": [3, 3], "cpus": 1.2}), two, is_served=True)


def test_what_is_reserved_at_the_moment_refuses_nothing():
    check_demand(spec(serve={"replicas": [2, 2], "cpus": 1}), LAPTOP, is_served=True)


def test_a_run_without_a_release_may_want_more_replicas_than_there_is_room_for():
    check_demand(spec(serve={"replicas": [9, 9], "cpus": 1}), LAPTOP, is_served=False)


def test_replicas_that_reserve_nothing_always_fit():
    check_demand(spec(serve={"replicas": [50, 50], "cpus": 0}), LAPTOP, is_served=True)


def test_a_pipeline_without_a_model_asks_for_nothing():
    described = {"system": "etl", "stages": [{"name": "a", "uses": "m:f"}]}
    pipeline = PlatformSpec.model_validate_json(json.dumps(described))
    check_demand(pipeline, [], is_served=True)
