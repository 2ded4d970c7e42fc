"""The ports on a real cluster keep the contract that the fake one keeps."""

import time
from dataclasses import dataclass, replace

import cv2
import numpy as np
import pytest

from platformops.delivery.documents import system_json
from platformops.delivery.records import Revision, System
from tests.ray.evaluation_kit import predicted, publish_evaluation
from tests.ray.serving_kit import CLASSES, SERVE, Place, publish_model
from tests.simulation.ports_contract import PortsContract

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore")]
"""Ray and Serve warn about themselves while they start."""
DEADLINE_S = 90


@dataclass
class Bench:
    ports: object
    good: Revision
    broken: Revision

    def pass_a_moment(self):
        """Real time passes by itself."""

    def until(self, condition):
        end = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < end, "never came"
            time.sleep(0.1)


@pytest.fixture(scope="module")
def real(ray_cluster, tmp_path_factory):
    from platformops.on_ray.controller import RayPorts
    from platformops.on_ray.gateway import Settings, start_gateway, stop_gateway

    place = Place(tmp_path_factory.mktemp("ports"))
    model = replace(publish_model(place.home), system="ports")
    images = np.random.default_rng(0).integers(0, 255, (4, 8, 8, 1), dtype=np.uint8)
    contents = [cv2.imencode(".png", image)[1].tobytes() for image in images]
    found = publish_evaluation(place.home, 1, contents, predicted(place.home, model, images), [0, 1, 2, 3], CLASSES)
    good = replace(model, evaluation=found[0], evaluation_digest=found[1])
    broken = replace(good, number=2, manifest_digest="0" * 64)
    place.store.put("system/ports", system_json(System("ports", None, None, SERVE, CLASSES, "up")), expect=None)
    stop_gateway()
    start_gateway(Settings(place.home))
    ports = RayPorts(place.home, place.store)
    yield Bench(ports, good, broken)
    ports.close()
    stop_gateway()


class TestRayPorts(PortsContract):
    @pytest.fixture
    def bench(self, real):
        return real
