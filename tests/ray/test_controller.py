"""Releases on a real cluster: controller actor, Serve, gateway and verification through the real endpoint."""

import os
import signal
import time
from dataclasses import replace

import cv2
import httpx
import numpy as np
import pytest

from platformops.delivery.decisions import explain
from platformops.delivery.records import RolloutState
from platformops.delivery.rollout import is_running
from platformops.delivery.systems import controller_status, load_rollout, load_system, newest_rollout, request_release
from platformops.delivery.systems import stop_system as ask_to_stop
from platformops.errors import ClusterError
from platformops.registry.registry import aliases
from platformops.spec.types import PlatformSpec
from tests.ray.evaluation_kit import predicted, publish_evaluation, register_version
from tests.ray.serving_kit import CLASSES, Place, publish_model, remove_revisions

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore")]
"""Ray and Serve warn about themselves while they start."""
DEADLINE_S = 120
SERVED = {"system": "digits", "gates": {"p99_ms": "<= 5000"}, "serve": {"timeout_s": 8.0, "threads": 1}}
SPEC = PlatformSpec.model_validate({**SERVED, "release": {"steps": ("100%",), "keep_warm": "1s"}})
MARGINS = {"errors": "20%", "latency": "100%", "disagreement": "99%", "quality": "20%"}
"""Wide, so that a hundred requests are proof, and a busy machine is not mistaken for a slow model."""
RELEASE = {"min_bake": "1s", "margins": MARGINS}
GUARDED = PlatformSpec.model_validate({**SERVED, "release": RELEASE})
"""In the steps that are the default."""
PATIENT = PlatformSpec.model_validate({**SERVED, "release": {**RELEASE, "min_bake": "10s"}})
"""Long enough at the step `shadow` for a hundred copies."""
FAILS_LATER = """
from platformops.apps.image.answering import encode as _encode

BASE = "image"

asked = [0]

def encode(outputs, classes):
    asked[0] += len(outputs)
    if asked[0] > 600:
        raise RuntimeError("a defect that no gate sees")
    return _encode(outputs, classes)
"""
"""The verification asks 309 times, and 240 under load; what comes afterwards is traffic."""
IMAGES = np.random.default_rng(0).integers(0, 255, (12, 8, 8, 1), dtype=np.uint8)
CONTENTS = [cv2.imencode(".png", image)[1].tobytes() for image in IMAGES]


class Site:
    """A home on the running cluster, with its gateway and controller."""

    def __init__(self, root):
        self.place = Place(root)
        self.home, self.store = self.place.home, self.place.store

    def version(self, number, *, is_honest=True, app_file=None):
        """A registered version; a dishonest one claims other answers offline than its model gives."""
        revision = publish_model(self.home, number=number, app_file=app_file)
        probabilities = predicted(self.home, revision, IMAGES)
        claimed = probabilities if is_honest else np.roll(probabilities, 1, axis=1)
        labels = np.arange(len(IMAGES)) % 10
        found = publish_evaluation(
            self.home, number, CONTENTS, probabilities, labels, CLASSES, offline=claimed, rows=IMAGES
        )
        return register_version(self.store, revision, found)

    def release(self, version, spec=SPEC):
        from platformops.on_ray.controller import nudge_controller

        rollout = request_release(self.store, spec, version, classes=CLASSES, now=time.time())
        nudge_controller()
        return rollout

    def until(self, condition, what):
        end = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < end, f"{what}: {newest_rollout(self.store, 'digits')[0]}"
            time.sleep(0.1)

    def outcome(self, number):
        self.until(lambda: not is_running(load_rollout(self.store, "digits", number)), "the rollout ends")
        return load_rollout(self.store, "digits", number)

    def predict(self):
        from platformops.on_ray.gateway import gateway_address

        return httpx.post(
            f"{gateway_address()}/digits/predict", content=CONTENTS[0], headers=self.place.headers, timeout=30
        )

    def live(self):
        status = controller_status(self.store)
        return bool(status) and [s["state"] for s in status["systems"]] == ["live"]


@pytest.fixture(scope="module")
def site(ray_cluster, tmp_path_factory):
    from platformops.on_ray.controller import start_controller, stop_controller
    from platformops.on_ray.gateway import Settings, start_gateway, stop_gateway

    made = Site(tmp_path_factory.mktemp("site"))
    start_gateway(Settings(made.home))
    assert start_controller(made.home) == 1
    yield made
    stop_controller()
    stop_gateway()
    remove_revisions()


def controller_pid():
    import ray

    actor = ray.get_actor("platformops-controller", namespace="platformops")
    return ray.get(actor.pid.remote(), timeout=60)


def test_releases_from_the_first_to_a_refused_one_and_through_the_death_of_the_controller(site):
    """One story, as each chapter needs the one before and starting replicas is what takes the time."""
    first = site.version(1)
    site.release(first)
    rollout = site.outcome(1)
    assert rollout.state is RolloutState.PROMOTED, rollout.reason
    gates = {g.name: g for g in rollout.gates}
    assert set(gates) == {"servable", "parity", "p99_ms", "transform", "latency_under_load", "memory_under_load"}
    assert gates["transform"].evidence["rows"] == len(CONTENTS)
    site.until(site.live, "the system is live")
    assert site.predict().json()["revision"] == "digits-r1"
    assert aliases(site.store, "digits")["champion"].number == 1
    assert not site.store.scan("key/controller"), "the key of the verification is gone"
    assert site.release(first).number == 1, "releasing what is stable does nothing"

    site.release(site.version(2, is_honest=False))
    rollout = site.outcome(2)
    assert rollout.state is RolloutState.REFUSED
    assert [g.name for g in rollout.gates if not g.passed] == ["parity"]
    assert "parity" in explain(site.store, "digits:v2")[0].reason
    assert site.predict().json()["revision"] == "digits-r1"

    site.release(site.version(3))
    site.until(lambda: newest_rollout(site.store, "digits")[0].state is not RolloutState.PENDING, "it moves")
    os.kill(controller_pid(), signal.SIGKILL)
    answers = []

    def ended():
        answers.append(site.predict().status_code)
        return not is_running(newest_rollout(site.store, "digits")[0])

    site.until(ended, "the rollout ends after the controller's death")
    assert load_rollout(site.store, "digits", 3).state is RolloutState.PROMOTED
    assert set(answers) == {200}
    assert controller_status(site.store)["epoch"] == 2
    site.until(lambda: site.predict().json().get("revision") == "digits-r3", "traffic has moved")

    from platformops.on_ray.serving import revision_statuses

    site.until(lambda: set(revision_statuses()) == {"digits-r3"}, "the old revisions are gone once drained")
    assert {n["state"] for n in controller_status(site.store)["nodes"]} == {"alive"}

    ask_to_stop(site.store, "digits", now=time.time())
    site.until(lambda: not revision_statuses(), "nothing runs any more")
    assert load_system(site.store, "digits")[0].route is None
    site.release(site.version(3))
    site.until(site.live, "the stopped system is live again")
    site.until(lambda: site.predict().json().get("revision") == "digits-r3", "the gateway follows the new route")


def under_traffic(site, number, *, kill_at=None):
    """Requests one after the other until the rollout has ended; the statuses, who answered, and the processes of the
    candidate while it had traffic."""
    from platformops.on_ray.serving import probed

    replies, pids = [], set()

    def ended():
        replies.append(site.predict())
        rollout = load_rollout(site.store, "digits", number)
        if len(replies) % 20 == 0 and rollout.state is RolloutState.SHIFTING:
            pids.add(probed(rollout.candidate.name, ()).replica)
        if kill_at and len(replies) == kill_at:
            os.kill(controller_pid(), signal.SIGKILL)
        return not is_running(load_rollout(site.store, "digits", number))

    end = time.monotonic() + DEADLINE_S
    while not ended():
        assert time.monotonic() < end, newest_rollout(site.store, "digits")[0]
    return {r.status_code for r in replies}, {r.json()["revision"] for r in replies}, pids


def test_a_guarded_release_climbs_under_traffic_a_defect_is_stopped_and_a_rollback_returns(site):
    """Goes on from the story above: v3 is stable. No request fails, whatever happens to the candidates."""
    from platformops.delivery import orders

    good = site.release(site.version(4), GUARDED)
    assert good.steps == ("shadow", "1%", "10%", "50%", "100%")
    statuses, _, pids = under_traffic(site, good.number, kill_at=60)
    rollout = load_rollout(site.store, "digits", good.number)
    assert rollout.state is RolloutState.PROMOTED, rollout.reason
    assert statuses == {200}
    assert {"errors", "latency", "schema"} <= {g.name for g in rollout.gates if g.passed}
    climbed = [d.decision.rpartition("step ")[2] for d in explain(site.store, rollout.name) if "step" in d.decision]
    assert climbed[::-1] == list(good.steps)
    assert len(pids) == 1, "no replica was restarted on the way to all traffic"

    bad = site.release(site.version(5, app_file=FAILS_LATER), PATIENT)
    statuses, revisions, _ = under_traffic(site, bad.number)
    rollout = load_rollout(site.store, "digits", bad.number)
    assert rollout.state is RolloutState.ROLLED_BACK, rollout.reason
    assert [g.name for g in rollout.gates if not g.passed] == ["errors"]
    assert statuses == {200}
    assert revisions == {good.candidate.name}

    back = orders.roll_back(site.store, "digits", who="ada", now=time.time())
    assert site.outcome(back.number).state is RolloutState.PROMOTED
    site.until(lambda: site.predict().json().get("revision") == "digits-r3", "what was stable before answers again")


def test_starting_the_controller_twice_finds_the_one_that_runs(site):
    from platformops.on_ray.controller import start_controller

    pid = controller_pid()
    start_controller(site.home)
    assert controller_pid() == pid


def test_a_controller_of_another_store_is_not_taken_for_ours(site, tmp_path):
    from platformops.on_ray.controller import start_controller

    other = replace(site.home, root=tmp_path, store_url=f"sqlite:///{tmp_path / 'store.db'}")
    with pytest.raises(ClusterError, match="another store"):
        start_controller(other)
