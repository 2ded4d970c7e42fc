"""Detectors: rare values are told, usual ones are not, and memory stays constant."""

import sys

import numpy as np
import pytest
from scipy.stats import nbinom

from platformops.health.detectors.averages import Ewma
from platformops.health.detectors.peers import PeerDeviation
from platformops.health.detectors.rates import GammaPoissonRate
from platformops.health.detectors.robust import RobustEwma, two_sided
from platformops.health.detectors.streams import DailyShift, Episodes, StreamScorer
from platformops.health.detectors.surprise import Surprise
from platformops.health.detectors.vectors import VectorScorer, fit
from platformops.health.records import Signal


def signal(value, subject="rank-0", source="step_s", at_s=0.0):
    return Signal(subject, source, value, at_s)


def test_an_ewma_is_the_plain_mean_until_its_memory_is_full():
    mean = Ewma(0.1)
    assert [mean.add(value) for value in (2.0, 4.0, 6.0)] == pytest.approx([2.0, 3.0, 4.0])
    for _ in range(300):
        mean.add(10.0)
    assert mean.mean == pytest.approx(10.0, abs=1e-6)


def test_surprise_is_the_share_of_earlier_values_as_large():
    surprise = Surprise()
    for value in np.exp(np.linspace(-3, 3, 999)):
        surprise.add(float(value))
    assert surprise.add(float(np.exp(-3))) == pytest.approx(0.0, abs=0.02)
    assert surprise.add(1.0) == pytest.approx(np.log10(2), abs=0.05)
    assert surprise.add(float(np.exp(6))) > 3.0 + 0.25 * 20
    assert surprise.quantile(0.5) == pytest.approx(1.0, rel=0.15)


def test_a_first_value_and_zeros_surprise_nobody():
    surprise = Surprise()
    assert [surprise.add(0.0) for _ in range(3)] == [0.0, 0.0, 0.0]


def test_a_robust_chart_tells_an_outlier_and_is_not_blinded_by_it():
    rng = np.random.default_rng(0)
    chart = RobustEwma()
    for value in rng.normal(10.0, 1.0, 300):
        chart.add(signal(float(value)))
    first, second = chart.add(signal(40.0)), chart.add(signal(40.0))
    assert first.surprise > 20
    assert second.surprise > 20, "the first outlier did not widen the scale much"
    assert "usual" in first.reason
    assert chart.add(signal(10.0)).surprise < 1.0


def test_a_robust_chart_says_nothing_before_it_knows_the_series():
    chart = RobustEwma(warm=10)
    assert [chart.add(signal(float(value))) for value in range(10)] == [None] * 10


def test_two_sided_tails_are_those_of_the_normal():
    assert two_sided(0.0) == 0.0
    assert two_sided(1.959964) == pytest.approx(-np.log10(0.05), abs=1e-5)
    assert two_sided(-40.0) > 300


def test_one_slow_rank_is_named_after_three_rounds_and_a_slow_gang_never():
    rng = np.random.default_rng(1)
    peers = PeerDeviation(rounds=3)
    alarms = []
    for turn in range(30):
        slow_all = 3.0 if turn > 20 else 1.0
        times = rng.normal(1.0, 0.02, 8) * slow_all
        times[5] *= 1.5 if turn >= 10 else 1.0
        alarms.append(peers.add([signal(float(value), f"rank-{rank}") for rank, value in enumerate(times)]))
    assert [len(found) for found in alarms[:12]] == [0] * 12
    assert all([alarm.subject for alarm in found] == ["rank-5"] for found in alarms[12:])
    assert "peers" in alarms[-1][0].reason


def test_a_gang_in_lockstep_does_not_alarm_on_a_hair_and_two_members_are_no_peers():
    peers = PeerDeviation(rounds=1)
    assert peers.add([signal(1.0, str(rank)) for rank in range(7)] + [signal(1.01, "7")]) == ()
    assert peers.add([signal(1.0, "a"), signal(9.0, "b")]) == ()


def test_a_member_that_left_takes_its_streak_along():
    peers = PeerDeviation(rounds=2)
    group = [signal(1.0, str(rank)) for rank in range(4)] + [signal(5.0, "slow")]
    peers.add(group)
    peers.forget({str(rank): None for rank in range(4)})
    assert peers.add(group) == ()


def test_the_tail_of_a_count_is_the_negative_binomial_s():
    rate = GammaPoissonRate(prior_counts=2.0, prior_exposure=10.0, half_life=100.0)
    assert rate.add(4, 3.0) == pytest.approx(-np.log10(nbinom.sf(3, 2.0, 10.0 / 13.0)), abs=1e-9)


def test_a_burst_of_errors_surprises_and_the_usual_count_does_not():
    rate = GammaPoissonRate(prior_counts=1.0, prior_exposure=10.0, half_life=200.0)
    rng = np.random.default_rng(4)
    usual = [rate.add(int(count), 1.0) for count in rng.poisson(3.0, 300)]
    assert np.mean(np.array(usual[50:]) > 3.0) < 0.01
    alarm = rate.alarm("node-1", "ECC errors", 40, 1.0, at_s=5.0)
    assert alarm.surprise > 10
    assert "40 ECC errors" in alarm.reason
    assert rate.add(0, 1.0) == 0.0
    assert np.isfinite(rate.add(1_000_000, 1.0))


def test_a_rate_forgets_what_is_long_past():
    rate = GammaPoissonRate(prior_counts=1.0, prior_exposure=1.0, half_life=10.0)
    rate.add(1000, 1.0)
    for _ in range(200):
        rate.add(0, 1.0)
    assert rate.rate < 0.2


def daily(num_days, seed=5):
    rng = np.random.default_rng(seed)
    at_s = np.arange(num_days * 288) * 300.0
    values = 50.0 + 20.0 * np.sin(at_s / 86400.0 * 2 * np.pi) + rng.normal(0, 1.0, len(at_s))
    return values, at_s


def test_what_is_usual_at_its_hour_is_no_shift_and_a_missing_morning_is():
    values, at_s = daily(10)
    values[9 * 288 + 60 : 9 * 288 + 84] = 50.0
    shift = DailyShift()
    shifts = np.abs([shift.add(value, at) for value, at in zip(values.tolist(), at_s.tolist(), strict=True)])
    assert shifts[9 * 288 + 60 : 9 * 288 + 84].max() > 2 * shifts[5 * 288 : 9 * 288].max()


@pytest.mark.parametrize("change", ["spike", "level", "dead", "noisy"])
def test_a_stream_scores_its_anomaly_above_everything_before(change):
    values, at_s = daily(8)
    start = 7 * 288
    rng = np.random.default_rng(6)
    values[start:] = {
        "spike": values[start:] + 100.0 * (np.arange(len(values) - start) < 3),
        "level": values[start:] + 60.0,
        "dead": np.full(len(values) - start, values[start]),
        "noisy": values[start:] + rng.normal(0, 25.0, len(values) - start),
    }[change]
    scorer = StreamScorer()
    scores = np.array([scorer.add(value, at) for value, at in zip(values.tolist(), at_s.tolist(), strict=True)])
    assert scores[start : start + 144].max() > scores[3 * 288 : start].max()


def test_a_score_does_not_depend_on_the_unit():
    values, at_s = daily(4)
    one, thousand = StreamScorer(), StreamScorer()
    for value, at in zip(values.tolist(), at_s.tolist(), strict=True):
        assert one.add(value, at) == pytest.approx(thousand.add(1024.0 * value, at), abs=0.3)


def test_an_episode_is_one_alarm_unless_it_grows():
    episodes = Episodes(1.0, quiet=10, growth=0.8)
    scores = [0.0, 1.2, 1.5, 1.1, 2.5, 0.0] + [0.0] * 10 + [1.1]
    assert [at for at, score in enumerate(scores) if episodes.add(score)] == [1, 4, 16]


def machine(seed, num=2000):
    rng = np.random.default_rng(seed)
    cause = rng.normal(0, 0.1, (num, 2))
    return 0.5 + np.column_stack([cause, cause @ [[1.0, 0.5], [0.5, -1.0]]]) + rng.normal(0, 0.01, (num, 4))


def test_a_broken_correlation_is_an_anomaly_though_each_metric_is_in_its_range():
    model = fit(machine(7))
    scorer = VectorScorer(model)
    usual = [scorer.add(sample) for sample in machine(8, 200)]
    broken = machine(9, 20)
    broken[:, 2] = broken[::-1, 2]
    assert max(scorer.add(sample) for sample in broken) > 1.5 * max(usual)


def test_a_vector_scorer_leaves_its_model_as_it_was():
    model = fit(machine(7))
    first = [VectorScorer(model).add(sample) for sample in machine(8, 5)]
    scorer = VectorScorer(model)
    for sample in machine(9, 50):
        scorer.add(sample + 1.0)
    assert [VectorScorer(model).add(sample) for sample in machine(8, 5)] == first


def test_constant_metrics_do_not_divide_by_nothing():
    healthy = np.zeros((100, 3))
    scorer = VectorScorer(fit(healthy))
    assert scorer.add(np.zeros(3)) == 0.0
    assert scorer.add(np.array([0.0, 1.0, 0.0])) > 1.0


def test_streams_keep_constant_memory():
    scorer = StreamScorer()
    sizes = set()
    for turn in range(3000):
        scorer.add(float(turn % 17), turn * 60.0)
        if turn >= 1000 and turn % 1000 == 0:
            sizes.add(sum(sys.getsizeof(part._counts) for part in scorer._surprises))
    assert len(sizes) == 1
