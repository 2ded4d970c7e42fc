"""The performance model: laws that must hold, costs that are found again, and the bottleneck by its name."""

import math
from dataclasses import replace

import pytest

from benchmarks.serving_world import World, injected, observed
from platformops.observation.capacity.bottleneck import bottleneck
from platformops.observation.capacity.laws import little, scalability
from platformops.observation.capacity.queueing import predict
from platformops.observation.capacity.records import Cause, Load, Service
from platformops.observation.capacity.service import capacity_interval, capacity_per_s, fit_service
from platformops.observation.capacity.tails import fit_live
from platformops.observation.capacity.tuning import propose

STEADY = Service(fixed_s=0.002, item_s=0.0005, spread=0.0, slowness=(1.0,), gateway_s=0.0001)


@pytest.fixture(scope="module")
def points():
    return [observed(World(), Load(1, 64, clients=n), requests=1500, seed=n) for n in (1, 8, 64)]


def test_a_steady_stretch_obeys_littles_law(points):
    assert all(little(point).is_consistent for point in points)


def test_a_stretch_that_breaks_littles_law_says_by_how_much(points):
    check = little(replace(points[1], in_flight=16.0))
    assert not check.is_consistent
    assert "differ by 5" in check.reason


def test_the_scalability_law_is_found_again():
    clients = [1, 2, 4, 8, 16, 32]
    law = scalability(clients, [100 * n / (1 + 0.05 * (n - 1) + 0.001 * n * (n - 1)) for n in clients])
    assert law.rate_per_s.value == pytest.approx(100, rel=1e-3)
    assert law.contention.value == pytest.approx(0.05, rel=1e-2)
    assert law.best_clients == pytest.approx(math.sqrt(0.95 / 0.001), rel=1e-2)
    assert law.coherence.low <= law.coherence.value <= law.coherence.high


def test_two_concurrencies_are_too_few_for_the_scalability_law():
    with pytest.raises(ValueError, match="three"):
        scalability([1, 2, 2], [100, 180, 185])


def test_costs_of_a_call_are_found_in_its_measurements(points):
    service, world = fit_service(points), World()
    assert service.item_s == pytest.approx(world.decode_s + world.transform_s + world.model_s, rel=0.1)
    assert service.fixed_s == pytest.approx(world.hop_s + world.model_fixed_s, rel=0.15)
    interval = capacity_interval(points, replicas=1, batch=64)
    assert interval.low <= interval.value <= interval.high
    assert interval.high / interval.low < 1.3


def test_nothing_is_fitted_to_no_calls(points):
    with pytest.raises(ValueError, match="no call"):
        fit_service([replace(points[0], calls=())])


def test_a_lone_client_waits_for_gateway_and_call_alone():
    answer = predict(STEADY, Load(1, 64, clients=1), requests=500)
    assert answer.p50_s == pytest.approx(0.0026)
    assert answer.throughput_per_s == pytest.approx(1 / 0.0026, rel=0.01)
    assert answer.mean_items == 1.0


def test_a_saturated_system_serves_its_capacity():
    answer = predict(STEADY, Load(2, 8, clients=200), requests=5000)
    assert answer.throughput_per_s == pytest.approx(capacity_per_s(STEADY, replicas=2, batch=8), rel=0.03)
    assert answer.utilisation > 0.95


def test_unbatched_exponential_service_waits_as_the_textbook_says():
    """M/G/1 by Pollaczek and Khinchine: a closed form that the events must agree with."""
    service = Service(fixed_s=0.0, item_s=0.01, spread=1.0, slowness=(1.0,), gateway_s=0.0)
    answer = predict(service, Load(1, 1, per_s=50.0), requests=15_000, seed=3)
    second_moment = 0.01**2 * math.exp(1.0)
    waits = 50.0 * second_moment / (2 * 0.5)
    assert answer.mean_s == pytest.approx(0.01 + waits, rel=0.2)


def test_a_load_is_a_rate_or_a_number_of_clients():
    with pytest.raises(ValueError, match="either"):
        predict(STEADY, Load(1, 1))


def test_what_was_not_measured_is_predicted(points):
    more = [observed(World(), Load(2, 64, clients=n), requests=1500, seed=n) for n in (8, 64)]
    service, load = fit_service([*points, *more]), Load(4, 64, per_s=3000.0)
    told, seen = predict(service, load), observed(World(), load, requests=6000, seed=9)
    assert told.throughput_per_s == pytest.approx(seen.throughput_per_s, rel=0.15)
    assert told.p99_s == pytest.approx(seen.p99_s, rel=0.25)


@pytest.mark.parametrize("cause", Cause, ids=lambda c: c.value)
def test_the_bottleneck_is_named(cause):
    world = injected(cause, 2.0, 3)
    point = observed(world, Load(3, world.batch, clients=256), requests=3500, seed=5)
    found = bottleneck(point)
    assert found.cause is cause
    assert found.relief > 1.15
    assert any(c.isdigit() for c in found.evidence)


def test_tuning_keeps_the_limit_with_the_fewest_replicas():
    proposal = propose(STEADY, p99_s=0.05, replicas=(1, 2), batches=(8, 64))
    assert proposal.prediction.p99_s <= 0.05
    assert proposal.prediction.throughput_per_s > 1000
    alone = Service(fixed_s=0.0, item_s=0.0001, spread=0.0, slowness=(1.0,), gateway_s=0.001)
    assert propose(alone, p99_s=0.05, replicas=(1, 2), batches=(64,)).replicas == 1  # the gateway bounds it


def test_cores_that_others_keep_busy_serve_nothing():
    world = World()
    points = [observed(world, Load(1, world.batch, clients=n), requests=500, seed=n) for n in (1, 16)]
    alone = fit_service(points, cores=4.0)
    beside = fit_service([replace(p, idle_cores=1.5) for p in points], cores=4.0)
    assert (alone.cores, beside.cores) == (4.0, 2.5)
    crowded = fit_service([replace(p, idle_cores=9.0) for p in points], cores=4.0)
    assert 0 < crowded.cores < 2.5


def test_replicas_beyond_the_cores_add_nothing():
    """2 ms of CPU an item, 0.5 ms of the gateway's: two cores make 800 a second, however many replicas there are."""
    service = Service(0.0, 0.002, 0.0, (1.0,), 0.0005, cpu_item_s=0.0025, cores=2.0)
    assert capacity_per_s(service, replicas=1, batch=8) == pytest.approx(500)
    assert [capacity_per_s(service, replicas=n, batch=8) for n in (2, 4)] == pytest.approx([800, 800])
    assert predict(service, Load(4, 8, clients=64), requests=4000).throughput_per_s == pytest.approx(800, rel=0.03)
    assert propose(service, p99_s=0.08, replicas=(1, 2, 3, 4), batches=(8,)).replicas == 2


def test_cpu_an_item_is_found_in_what_replicas_tell(points):
    world = World()
    each = world.decode_s + world.transform_s + world.model_s
    found = fit_service(points, cores=2.0)
    assert each < found.cpu_item_s - found.gateway_s < each + world.model_fixed_s


def test_cpu_of_a_call_and_of_an_item_are_told_apart_by_how_busy_the_machine_is():
    """3 ms an item, 2 ms a call, half a core for others: full batches leave more of the cores to items."""
    world, points = World(), []
    for clients in (1, 8, 64):
        point = observed(world, Load(1, world.batch, clients=clients), requests=1500, seed=clients)
        items = sum(c.items for c in point.calls) / len(point.calls)
        busy = 0.5 + point.throughput_per_s * (0.003 + 0.002 / items)
        points.append(replace(point, busy_cores=busy, idle_cores=0.5))
    found = fit_service(points, cores=2.0)
    assert (found.cpu_item_s, found.cpu_call_s, found.cores) == pytest.approx((0.003, 0.002, 1.5), rel=0.02)
    assert capacity_per_s(found, replicas=8, batch=1) == pytest.approx(300, rel=0.03)
    assert capacity_per_s(found, replicas=8, batch=16) == pytest.approx(480, rel=0.03)
    assert propose(found, p99_s=0.5, replicas=(8,)).batch > 4


def test_a_limit_below_one_item_alone_is_refused_with_the_reason():
    with pytest.raises(ValueError, match=r"one item alone takes 2\.6 ms"):
        propose(STEADY, p99_s=0.001, replicas=(1,))


def as_clients_see(point, *, lag_s):
    """A live point: of its calls only the mean is known, and each request waits besides."""
    calls = point.calls
    mean = replace(
        calls[0],
        items=sum(c.items for c in calls) / len(calls),
        seconds=sum(c.seconds for c in calls) / len(calls),
        stage_s={cause: sum(c.stage_s[cause] for c in calls) / len(calls) for cause in calls[0].stage_s},
    )
    return replace(point, calls=(mean,), p50_s=point.p50_s + lag_s, p99_s=point.p99_s + lag_s)


def test_what_clients_wait_besides_is_learnt_from_what_they_saw():
    world, lag_s = World(spread=0.8), 0.004
    seen = [
        as_clients_see(observed(world, Load(1, 16, clients=n), requests=3000, seed=n), lag_s=lag_s) for n in (1, 4, 16)
    ]
    load = Load(1, 16, per_s=0.5 * max(p.throughput_per_s for p in seen))
    truth = as_clients_see(observed(world, load, requests=12_000, seed=9), lag_s=lag_s)
    plain, live = (predict(fit(seen), load) for fit in (fit_service, fit_live))
    assert abs(live.p99_s / truth.p99_s - 1) < 0.25 < abs(plain.p99_s / truth.p99_s - 1)
    assert abs(live.p50_s / truth.p50_s - 1) < abs(plain.p50_s / truth.p50_s - 1)


def test_the_tail_is_learnt_from_requests_that_came_at_random(points):
    seen = observed(World(), Load(1, 64, per_s=0.5 * max(p.throughput_per_s for p in points)), requests=4000, seed=3)
    random = replace(seen, clients=None, p99_s=seen.p50_s + 3.0 * (seen.p99_s - seen.p50_s))
    plain, longer = (fit_live([*points, one]).tail_ratio for one in (replace(random, p99_s=seen.p99_s), random))
    assert plain < 1.3
    assert 2.2 < longer < 3.9


def test_where_the_calls_explain_all_nothing_is_added(points):
    service = fit_live(points)
    assert service.lag_s < 0.1 * points[0].p50_s
    assert service.tail_ratio < 1.3
