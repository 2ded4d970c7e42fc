"""Revisions and gateway on a real cluster: deploy, ask, kill, fail, remove; one module, so that it starts once."""

import contextlib
import os
import re
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
import pytest

from platformops.clock import SystemClock
from platformops.delivery.records import RevisionState as S
from platformops.delivery.records import Route
from platformops.errors import ClusterError, StoreConflict
from platformops.keeper.doors import Doors, is_held
from tests.faults.processes import command_of
from tests.ray.serving_kit import Place, await_true, png, publish_model, remove_revisions

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore")]
"""Ray and Serve warn about themselves while they start."""

OWN_APP = """
BASE = "image"

def encode(outputs, classes):
    return [{"label": "mine", "probability": 1.0, "probabilities": {"mine": 1.0}} for _ in outputs]
"""


@pytest.fixture(scope="module")
def place(ray_cluster, tmp_path_factory):
    return Place(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def live(place):
    """One revision deployed, routed, and the gateway in front; yields (place, revision, address)."""
    from platformops.on_ray import gateway, serving

    revision = publish_model(place.home)
    serving.deploy_revision(revision, place.home)
    place.route(revision, {revision.name: 100.0}, 1)
    address = gateway.start_gateway(gateway.Settings(place.home))
    await_true(lambda: serving.revision_status(revision.name).state is S.READY)
    await_true(lambda: ask(place, address).status_code == 200)
    yield place, revision, address
    gateway.stop_gateway()
    remove_revisions()


def ask(place, address, content=None, **headers):
    return httpx.post(
        f"{address}/digits/predict", headers={**place.headers, **headers}, content=content or png(), timeout=15
    )


def test_a_real_image_is_answered_by_the_verified_model(live):
    place, revision, address = live
    body = ask(place, address).json()
    assert (body["model_version"], body["revision"]) == ("digits:v1", revision.name)
    (prediction,) = body["predictions"]
    assert set(prediction["probabilities"]) == set("0123456789")
    assert abs(sum(prediction["probabilities"].values()) - 1) < 1e-3


def connected_listeners():
    """Names of replicas' own sockets that a gateway of this machine is connected to (state 03 is connected)."""
    lines = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
    return [line[-1] for line in lines if line[5] == "03" and re.fullmatch(r"@platformops-[0-9a-f]{32}", line[-1])]


@pytest.mark.skipif(sys.platform != "linux", reason="replicas listen so on Linux only")
def test_a_replica_on_the_gateways_machine_is_reached_by_its_own_socket(live):
    place, _, address = live
    await_true(lambda: len(connected_listeners()) == 1)
    assert ask(place, address).status_code == 200


def test_one_bad_image_among_good_ones_in_a_batch_harms_only_its_own_request(live):
    place, _, address = live

    def one(n):
        return ask(place, address, b"\x89PNG garbage" if n % 4 == 0 else png(n)).status_code

    with ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(one, range(64)))
    assert statuses == [422 if n % 4 == 0 else 200 for n in range(64)]


def test_serve_listens_nowhere_and_the_gateway_on_loopback_only(live):
    from ray import serve

    _, _, address = live
    assert serve.status().proxies == {}
    port = int(address.rpartition(":")[2])
    listening = [c.laddr for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    assert {a.ip for a in listening if a.port == port} == {"127.0.0.1"}
    assert 8000 not in {a.port for a in listening}


def test_deploying_what_runs_and_starting_the_gateway_again_change_nothing(live):
    from platformops.on_ray import gateway, serving

    place, revision, address = live
    before = serving.revision_status(revision.name)
    serving.deploy_revision(revision, place.home)
    assert gateway.start_gateway(gateway.Settings(place.home)) == address
    assert serving.revision_status(revision.name) == before


def test_a_port_that_is_taken_is_refused_by_name(live):
    from platformops.on_ray.gateway import free_port

    place, _, address = live
    port = int(address.rpartition(":")[2])
    with pytest.raises(ClusterError, match=f"cannot listen on 127.0.0.1:{port}"):
        free_port(place.home, "127.0.0.1", port)


def test_a_pushed_route_holds_at_once_and_an_older_one_is_refused(live):
    from platformops.on_ray import gateway

    place, revision, _ = live
    route = place.route(revision, {revision.name: 100.0}, 5)
    gateway.set_route(route)
    assert gateway.routed(["digits", "other"]) == {"digits": 5}
    with pytest.raises(StoreConflict):
        gateway.set_route(Route("digits", {revision.name: 100.0}, 4))


def test_a_candidate_with_the_users_own_app_is_reached_by_pinning_and_removed_without_a_trace(live):
    from platformops.on_ray import serving

    place, _, address = live
    candidate = publish_model(place.home, number=2, app_file=OWN_APP)
    pin = {"x-platformops-revision": candidate.name}
    assert ask(place, address, **pin).status_code == 404
    serving.deploy_revision(candidate, place.home)
    await_true(lambda: serving.revision_status(candidate.name).state is S.READY)
    answered = await_true(lambda: (r := ask(place, address, **pin)).status_code == 200 and r)
    assert answered.json()["predictions"][0]["label"] == "mine"
    serving.remove_revision(candidate.name)
    serving.remove_revision(candidate.name)
    await_true(lambda: serving.revision_status(candidate.name).state is S.ABSENT)
    assert ask(place, address).status_code == 200


def test_a_revision_whose_artifact_was_changed_fails_with_the_file_named_and_harms_nobody(live):
    from platformops.on_ray import serving
    from platformops.store.artifacts import Artifacts

    place, _, address = live
    bad = publish_model(place.home, number=3)
    weights = Artifacts(place.home.artifacts_url, cache=place.home.cache).open(bad.artifact, bad.manifest_digest)
    damaged = weights / "model.safetensors"
    damaged.chmod(0o644)
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    serving.deploy_revision(bad, place.home)
    status = await_true(lambda: (s := serving.revision_status(bad.name)).state is S.FAILED and s, timeout_s=400)
    assert "model.safetensors" in status.reason
    assert ask(place, address).status_code == 200
    serving.remove_revision(bad.name)


def replica_pids():
    return [
        p.pid
        for p in psutil.Process().children(recursive=True)
        if "ReplicaProcess" in command_of(p) or p.name().startswith("ray::ServeReplica")
    ]


def test_with_two_replicas_a_killed_one_costs_no_request(live):
    from platformops.on_ray import serving

    place, revision, address = live
    double = replace(
        revision, number=4, replicas_min=2, replicas_max=2, options={**revision.options, "replicas": [2, 2]}
    )
    since = time.time()
    serving.deploy_revision(double, place.home)
    before = set(replica_pids())
    await_true(lambda: serving.revision_status(double.name).ready == 2)
    place.route(double, {double.name: 100.0}, 10)
    await_true(lambda: ask(place, address).json().get("revision") == double.name)
    victims = set(replica_pids()) - before
    statuses, stop = [], threading.Event()

    def load():
        while not stop.is_set():
            statuses.append(ask(place, address).status_code)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    await_true(lambda: len(statuses) > 50)
    os.kill(victims.pop(), signal.SIGKILL)
    seen = len(statuses)
    await_true(lambda: len(statuses) > seen + 200)
    stop.set()
    for thread in threads:
        thread.join()
    assert set(statuses) == {200}
    await_true(lambda: [life.has_crashed for life in lives_of(double, since) if life.ended] == [True])
    place.route(revision, {revision.name: 100.0}, 11)
    await_true(lambda: ask(place, address).json().get("revision") == revision.name)
    serving.remove_revision(double.name)
    await_true(lambda: all(life.ended for life in lives_of(double, since)))
    ended = lives_of(double, since)
    assert sorted(life.has_crashed for life in ended) == [False] * (len(ended) - 1) + [True], "the others were stopped"
    assert all(life.began <= life.ended for life in ended)


def lives_of(revision, since):
    """Of its replicas that began after `since`: Ray remembers those of other tests, too."""
    from platformops.on_ray.replica_lives import replica_lives

    return [life for life in replica_lives() if life.revision == revision.name and life.began >= since]


def test_more_items_in_flight_than_one_replica_holds_bring_a_second_one(live):
    from platformops.on_ray import serving

    place, revision, address = live
    options = {**revision.options, "replicas": [1, 2], "batch": 2}
    elastic = replace(revision, number=6, replicas_min=1, replicas_max=2, options=options)
    serving.deploy_revision(elastic, place.home)
    await_true(lambda: serving.revision_status(elastic.name).ready == 1)
    place.route(elastic, {elastic.name: 100.0}, 20)
    await_true(lambda: ask(place, address).json().get("revision") == elastic.name)
    stop = threading.Event()

    def load():
        while not stop.is_set():
            ask(place, address)

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        await_true(lambda: serving.revision_status(elastic.name).ready == 2)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    place.route(revision, {revision.name: 100.0}, 21)
    await_true(lambda: ask(place, address).json().get("revision") == revision.name)
    serving.remove_revision(elastic.name)


def kill_gateway(address):
    port = int(address.rpartition(":")[2])
    (gateway,) = (p for p in psutil.process_iter(["cmdline"]) if is_gateway(p, port))
    gateway.kill()
    psutil.wait_procs([gateway], timeout=10)


def is_gateway(process, port):
    """By name and socket: this very process may have the socket too."""
    if "GatewayProcess" not in " ".join(process.info["cmdline"] or []):
        return False
    return any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in process.net_connections("tcp"))


def test_while_a_killed_gateway_is_away_clients_wait_for_it_where_a_keeper_has_its_socket_too(live):
    place, _, address = live
    host, port = address.removeprefix("http://").split(":")
    with Doors(place.home.root, SystemClock()):
        await_true(lambda: is_held(place.home.root, (host, int(port))))
        kill_gateway(address)
        assert ask(place, address).status_code == 200, "a request that comes now is not refused"


def test_a_killed_gateway_comes_back_on_its_port_with_systems_routes_and_keys(live):
    place, _, address = live
    kill_gateway(address)

    def answered():
        with contextlib.suppress(httpx.TransportError):
            return ask(place, address).status_code == 200

    await_true(answered)


def test_a_revoked_key_is_refused_within_five_seconds(live):
    place, _, address = live
    entry = place.store.get(place.key)
    place.store.put(place.key, {**entry.value, "revoked": True}, expect=entry.version)
    await_true(lambda: ask(place, address).status_code == 401)
    place.store.put(place.key, entry.value, expect=None)
    await_true(lambda: ask(place, address).status_code == 200)
