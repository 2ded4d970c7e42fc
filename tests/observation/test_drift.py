"""Drift: what changes is found and named, and what does not change raises nothing, however often one looks."""

import numpy as np
import pandas as pd
import pytest

from platformops.observation.drift.bets import factors
from platformops.observation.drift.features import fit_features
from platformops.observation.drift.outcomes import outcomes_of
from platformops.observation.drift.ranks import Pool, luck_of
from platformops.observation.drift.records import Kind, Stream
from platformops.observation.drift.two_samples import contrasts, population_stability, separability
from platformops.observation.drift.watch import Watch


def table(rows, seed, *, shift=0.0, scale=1.0, missing=0.0, city=("ulm", "bonn")):
    luck = np.random.default_rng(seed)
    heat = 20 + scale * 5 * luck.normal(size=rows) + 5 * shift
    frame = pd.DataFrame({"heat": heat, "damp": heat * 0.5 + luck.normal(size=rows), "city": luck.choice(city, rows)})
    frame.loc[luck.random(rows) < missing, "damp"] = np.nan
    return frame


def found_in(after, *, before=2000, seed=1):
    features = fit_features(table(500, 2))
    watch = Watch(features.streams, features.values(table(500, seed)))
    assert watch.observe(features.values(table(before, seed + 10))) == ()
    return watch.observe(features.values(after))


def test_ranks_of_an_unchanged_sequence_are_uniform_even_with_ties():
    luck = np.random.default_rng(3)
    pool = Pool(luck.integers(0, 4, 100).astype(float))
    values = luck.integers(0, 4, 5000).astype(float)
    chunks = np.split(values, 50)
    ranks = np.concatenate([pool.ranks(c, luck.random(100)) for c in chunks])
    assert np.abs(np.quantile(ranks, np.linspace(0.1, 0.9, 9)) - np.linspace(0.1, 0.9, 9)).max() < 0.03


def test_every_bet_is_fair():
    grid = (np.arange(200_000) + 0.5) / 200_000
    won = factors(grid).mean(axis=0)  # the grid ends where the widest bet has 3 % of its winnings left
    assert ((won > 0.96) & (won < 1.0001)).all()


def test_luck_depends_on_the_position_alone():
    rows = np.arange(1000).astype(np.uint64)
    assert (luck_of(1, rows, 2)[500:] == luck_of(1, rows[500:], 2)).all()
    assert not (luck_of(1, rows, 2) == luck_of(1, rows, 3)).any()
    assert luck_of(1, rows, 2).mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("change", "names", "within"),
    [
        ({"shift": 0.6}, {"heat", "damp"}, 500),
        ({"scale": 1.6}, {"heat", "damp"}, 500),
        ({"missing": 0.2}, {"damp missing"}, 200),
        ({"city": ("ulm", "rome")}, {"city=bonn", "city=(other)"}, 200),
    ],
)
def test_a_change_is_found_and_named(change, names, within):
    found = found_in(table(1000, 7, **change))
    assert found, "nothing was found"
    assert found[0].row <= 2000 + within
    assert abs(found[0].since_row - 2000) <= 100
    assert found[0].stream.name in names or found[0].stream.kind is Kind.JOINT


def test_inputs_that_come_apart_are_found_together():
    after = table(2000, 7)
    after["damp"] = np.random.default_rng(5).permutation(after["damp"])
    assert found_in(after)[0].stream.kind is Kind.JOINT


def test_a_change_below_what_is_bet_on_raises_nothing():
    assert found_in(table(4000, 7, shift=0.01)) == ()


def test_flipped_labels_are_found_while_nothing_else_changes():
    luck = np.random.default_rng(1)
    truth = luck.integers(0, 2, 3000)
    told = np.where(luck.random(3000) < 0.15, 1 - truth, truth)
    late = np.where(np.arange(3000) < 2000, truth, 1 - truth)
    outcomes = outcomes_of(list(told[:500]))
    watch = Watch(outcomes.streams, outcomes.values(list(told[:500]), list(truth[:500])))
    found = watch.observe(outcomes.values(list(told[500:]), list(late[500:])))
    assert found[0].stream.kind is Kind.ERROR
    assert 1500 < found[0].row < 1600


def test_truth_that_is_not_known_yet_tells_nothing():
    outcomes = outcomes_of(["a", "b", "b"])
    values = outcomes.values(["a", "b"], [None, "a"])
    told = {s.name: values[:, i] for i, s in enumerate(outcomes.streams)}
    assert np.isnan(told["error of predictions"][0])
    assert told["error of predictions"][1] == 1.0
    assert told["prediction a"].tolist() == [1.0, 0.0]


def test_predicted_numbers_err_by_their_distance():
    outcomes = outcomes_of([1.5, 2.5])
    assert outcomes.values([1.5], [2.0])[0].tolist() == [1.5, 2.0, 0.5]


def test_batches_of_any_size_give_the_same_verdict():
    values = np.random.default_rng(4).normal(size=(900, 1))
    values[500:] += 1
    verdicts = []
    for size in (1, 7, 900):
        watch = Watch([Stream("x", Kind.INPUT)], np.random.default_rng(5).normal(size=(300, 1)))
        verdicts.append([d.row for at in range(0, 900, size) for d in watch.observe(values[at : at + size])])
    assert verdicts[0] == verdicts[1] == verdicts[2] != []


def test_false_alarms_are_as_rare_as_asked_for():
    luck = np.random.default_rng(6)
    alarms = 0
    for seed in range(10):
        watch = Watch(
            [Stream(str(i), Kind.INPUT) for i in range(3)],
            luck.exponential(size=(100, 3)),
            rows_per_false_alarm=1000,
            seed=seed,
        )
        alarms += len(watch.observe(luck.exponential(size=(1000, 3))))
    assert alarms <= 18  # 10,000 rows at one in 1,000 are 10 on average, at most


def test_many_inputs_do_not_drown_the_error_rate():
    luck = np.random.default_rng(8)
    streams = [Stream(f"x{i}", Kind.INPUT) for i in range(200)] + [Stream("error", Kind.ERROR)]
    reference, later = (luck.normal(size=(n, 201)) for n in (300, 300))
    reference[:, 200], later[:, 200] = luck.random(300) < 0.1, luck.random(300) < 0.5
    assert Watch(streams, reference).observe(later)[0].stream.name == "error"


def test_contrasts_name_the_column_that_moved_and_account_for_looks():
    moved = contrasts(table(500, 1), table(500, 2, shift=0.25))
    assert moved[0].name in ("heat", "damp")
    assert moved[0].test == "KS"
    assert moved[0].is_significant
    assert 0.1 < moved[0].distance < 0.5
    assert not contrasts(table(500, 1), table(500, 2, shift=0.25), look=10_000)[0].is_significant
    assert not any(c.is_significant for c in contrasts(table(500, 1), table(500, 2)))


def test_contrasts_of_missing_values_and_unseen_categories():
    before = table(500, 1)
    assert contrasts(before, table(500, 2, missing=0.1))[0].name == "damp"
    new = contrasts(before, table(500, 2, city=("ulm", "rome")))[0]
    assert (new.name, new.test) == ("city", "chi-squared")
    assert new.psi > 0.2


def test_contrasts_of_an_empty_column_say_nothing():
    nothing = pd.DataFrame({"x": [np.nan] * 30})
    assert not contrasts(nothing, nothing)[0].is_significant


def test_population_stability_is_nought_for_equal_shares():
    assert population_stability(np.array([10.0, 20.0]), np.array([10.0, 20.0])) == pytest.approx(0.0)
    assert population_stability(np.array([10.0, 20.0]), np.array([20.0, 10.0])) > 0.2


def test_a_classifier_tells_apart_what_no_single_column_shows():
    luck = np.random.default_rng(1)
    x, z = luck.normal(size=600), luck.normal(size=600)
    before = np.stack([x, 0.9 * x + 0.3 * z], axis=1)
    after = np.stack([x, -0.9 * x + 0.3 * z], axis=1)
    assert separability(before, after).p_value < 1e-6
    assert separability(before, after).auc > 0.8
    assert separability(before[::2], before[1::2]).p_value > 0.001
    assert separability(before[:5], after).p_value == 1.0
