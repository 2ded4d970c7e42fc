"""Verdicts on what two revisions did: harmful, harmless, not known yet; the model, or the machine."""

import json
import math
from dataclasses import replace

import pytest

from platformops.delivery.account import guard_results
from platformops.delivery.evidence import (
    NOTHING,
    Tallies,
    Tally,
    bucket_of,
    buckets_in,
    latency_ms,
    minus,
    plus,
    quantile,
    slower_than,
)
from platformops.delivery.ledger import ACROSS, added, opened
from platformops.delivery.ledger_documents import ledger_from, ledger_json
from platformops.delivery.missing import missing
from platformops.delivery.terms import Terms, terms_from, terms_json, terms_of
from platformops.delivery.verdict import WEIGHTS, Finding, judge
from platformops.errors import StoreError
from platformops.spec.types import PlatformSpec
from tests.delivery.kit import CANDIDATE, STABLE, Behaviour, Traffic, memory, seen

HARMLESS, HARMFUL, OPEN = Finding.HARMLESS, Finding.HARMFUL, Finding.OPEN


def test_the_guards_share_one_error_probability():
    assert sum(WEIGHTS.values()) == pytest.approx(1.0)


@pytest.mark.parametrize("ms", [0.01, 0.05, 1.0, 12.3, 250.0, 9_999.0, 1e9])
def test_a_latency_is_within_its_bucket(ms):
    bucket = bucket_of(ms)
    if 0.05 < ms < 2e5:
        assert latency_ms(bucket - 1) < ms <= latency_ms(bucket) * (1 + 1e-9)
    assert 0 <= bucket <= 16 * 22


def test_a_ratio_is_so_many_buckets():
    assert (buckets_in(0.15), buckets_in(1.0), buckets_in(0.0)) == (3, 16, 0)


def test_tallies_add_up_and_take_apart_again():
    first, second = Tally(requests=3, latencies={5: 2, 9: 1}), Tally(requests=4, failures=1, latencies={9: 4})
    both = plus(first, second)
    assert (both.requests, both.failures, dict(both.latencies)) == (7, 1, {5: 2, 9: 5})
    assert minus(both, first) == second
    assert minus(second, both) == second, "counts that fell were begun anew"
    assert (quantile(both.latencies, 0.5), slower_than(both.latencies, 5)) == (9, 5)
    assert plus(NOTHING, first) is first
    assert quantile({}, 0.5) is None


@pytest.mark.parametrize(
    ("candidate", "guard"),
    [
        (Behaviour(errors=0.011), "errors"),
        (Behaviour(median_ms=12.0), "latency"),
        (Behaviour(median_ms=12.0, spread=1.2), "latency"),
        (Behaviour(disagreement=0.06), "disagreement"),
        (Behaviour(disagreement=0.02, wrong=(0.04, 0.01)), "quality"),
    ],
    ids=["errors", "latency", "skewed latency", "labels", "quality"],
)
def test_a_harmful_candidate_is_found_by_the_guard_of_its_defect(candidate, guard):
    traffic = Traffic()
    copies = traffic.shadow(candidate, looks=1500, labelled=10)
    judgement = traffic.judgement
    assert judgement.finding is HARMFUL
    assert guard in (judgement.leading, "latency" if judgement.leading == "tail" else "")
    assert judgement.node == ""
    assert copies < 20_000
    (guilty,) = [g for g in guard_results(traffic.ledger, judgement, traffic.terms, traffic.expected) if not g.passed]
    assert guilty.name == judgement.leading
    assert guilty.would_change


def test_a_heavier_tail_alone_is_found():
    """One answer in ten takes five times as long; the median stays."""
    traffic = Traffic()
    slow = Behaviour(median_ms=60.0)
    for _ in range(300):
        traffic.count(CANDIDATE, seen(traffic.luck, 36, Behaviour(), copies=True))
        traffic.count(CANDIDATE, seen(traffic.luck, 4, slow, copies=True))
        traffic.count(STABLE, seen(traffic.luck, 40, Behaviour()))
        if traffic.look().finding is HARMFUL:
            break
    assert traffic.judgement.finding is HARMFUL
    assert traffic.judgement.leading == "tail"


@pytest.mark.parametrize("spread", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("batch", [5, 40])
def test_an_equal_candidate_is_proven_harmless(spread, batch):
    traffic = Traffic(seed=3)
    same = Behaviour(spread=spread, disagreement=0.01)
    traffic.shadow(same, Behaviour(spread=spread), looks=12_000 // batch, batch=batch)
    assert traffic.judgement.finding is HARMLESS


def test_latencies_in_two_clusters_are_proven_harmless_although_no_shift_can_be_seen():
    """Most answers come from a cache in 1 ms, the rest in 100: between them there is nothing to shift."""
    traffic = Traffic()
    for _ in range(300):
        for revision in (CANDIDATE, STABLE):
            hits = int(traffic.luck.binomial(60, 0.6))
            tally = Tally(copies=60, latencies={bucket_of(1.0): hits, bucket_of(100.0): 60 - hits}, compared=60)
            traffic.count(revision, tally if revision == CANDIDATE else replace(tally, copies=0, requests=60))
        if traffic.look().finding is HARMLESS:
            break
    assert traffic.judgement.finding is HARMLESS


def test_alarms_on_equal_candidates_are_as_rare_as_promised():
    alarms = 0
    for seed in range(40):
        traffic = Traffic(seed=seed)
        traffic.shadow(Behaviour(disagreement=0.02, errors=0.01), Behaviour(errors=0.01), looks=25, batch=40)
        alarms += traffic.judgement.finding is HARMFUL
    assert alarms <= 2 + 5


def test_a_candidate_without_traffic_is_neither_harmful_nor_harmless_and_it_is_said_what_is_missing():
    traffic = Traffic()
    judgement = traffic.look(60)
    assert judgement.finding is OPEN
    assert judgement.log_e == pytest.approx(0.0)
    lacks = missing(traffic.ledger, judgement, traffic.terms, 0.02, traffic.now)
    assert lacks.guards == ("errors", "latency")
    assert 800 < lacks.requests < 2500
    assert "none come at present" in lacks.said


def test_what_is_missing_is_about_what_it_takes():
    traffic = Traffic(seed=4)
    traffic.shadow(Behaviour(disagreement=0.01), looks=20)
    lacks = missing(traffic.ledger, traffic.judgement, traffic.terms, 0.02, traffic.now)
    before = traffic.ledger.of(CANDIDATE).copies
    after = traffic.shadow(Behaviour(disagreement=0.01), looks=1000)
    assert traffic.judgement.finding is HARMLESS
    assert (after - before) / 4 < lacks.requests < 4 * (after - before)
    assert lacks.seconds == pytest.approx(lacks.requests / 20, rel=0.1)
    assert "at this rate" in lacks.said


def test_more_of_the_same_does_not_help_a_candidate_that_fails_more_often():
    traffic = Traffic(terms=Terms(false_alarm_ratio=1e-9))
    traffic.shadow(Behaviour(errors=0.02), looks=30)
    lacks = missing(traffic.ledger, traffic.judgement, traffic.terms, 0.02, traffic.now)
    assert lacks.requests is None
    assert "do not show" in lacks.said


def bad_node(traffic, looks=150):
    """Node n2 fails a fifth of all requests of any revision; the candidate has more of its replicas there."""
    good, bad = Behaviour(), Behaviour(errors=0.2)
    for _ in range(looks):
        traffic.count(CANDIDATE, seen(traffic.luck, 2, good, copies=True), "n1")
        traffic.count(CANDIDATE, seen(traffic.luck, 18, bad, copies=True), "n2")
        traffic.count(STABLE, seen(traffic.luck, 18, good), "n1")
        traffic.count(STABLE, seen(traffic.luck, 2, bad), "n2")
        traffic.look()


def test_a_bad_node_is_no_verdict_on_the_model_that_runs_there_more():
    traffic = Traffic()
    bad_node(traffic)
    assert traffic.judgement.finding is not HARMFUL


def test_a_bad_model_on_a_bad_node_is_still_found():
    traffic = Traffic()
    for _ in range(400):
        for node, floor in (("n1", 0.0), ("n2", 0.1)):
            traffic.count(CANDIDATE, seen(traffic.luck, 10, Behaviour(errors=floor + 0.03), copies=True), node)
            traffic.count(STABLE, seen(traffic.luck, 10, Behaviour(errors=floor + 0.001)), node)
        if traffic.look().finding is HARMFUL:
            break
    assert traffic.judgement.finding is HARMFUL
    assert traffic.judgement.node == ""


def test_harm_on_one_node_where_stable_never_ran_names_the_node():
    traffic = Traffic()
    for _ in range(100):
        traffic.count(CANDIDATE, seen(traffic.luck, 20, Behaviour(errors=0.1), copies=True), "n2")
        traffic.count(STABLE, seen(traffic.luck, 20, Behaviour()), "n1")
        if traffic.look().finding is HARMFUL:
            break
    assert traffic.judgement.finding is HARMFUL
    assert traffic.judgement.node == "n2"


def test_requests_that_never_came_back_count_where_the_revision_runs():
    """A hang names no node; were it left aside, nothing could be compared with it."""
    traffic = Traffic()
    for _ in range(60):
        traffic.count(CANDIDATE, seen(traffic.luck, 1, Behaviour(), copies=True))
        traffic.count(CANDIDATE, Tally(copies=5, failures=5, deadlines=5), "")
        traffic.count(STABLE, seen(traffic.luck, 20, Behaviour()))
        if traffic.look().finding is HARMFUL:
            break
    assert traffic.judgement.finding is HARMFUL
    assert traffic.judgement.leading == "errors"
    assert traffic.judgement.node == ""


def test_one_canary_request_in_a_hundred_is_compared_with_all_that_stable_did_meanwhile():
    """At a low rate there are seconds with one side only; none of what was seen in them may be lost."""
    traffic = Traffic()
    for turn in range(4000):
        if turn % 20 == 0:
            traffic.count(CANDIDATE, Tally(requests=1, failures=int(traffic.luck.random() < 0.2)))
        traffic.count(STABLE, Tally(requests=1))
        if traffic.look().finding is HARMFUL:
            break
    assert traffic.judgement.finding is HARMFUL
    assert traffic.ledger.of(CANDIDATE).requests < 60


def test_what_was_counted_before_the_account_was_opened_does_not_belong_to_it():
    before = Tallies("gw", {CANDIDATE: {"n1": Tally(requests=300, failures=300)}})
    ledger = opened(CANDIDATE, STABLE, [before], 0.0)
    assert added(ledger, [before], Terms().tolerances, 1.0) is ledger
    more = Tallies("gw", {CANDIDATE: {"n1": Tally(requests=301, failures=300)}})
    assert added(ledger, [more], Terms().tolerances, 1.0).of(CANDIDATE) == Tally(requests=1)


def test_a_gateway_that_starts_anew_adds_to_what_its_predecessor_counted():
    ledger = opened(CANDIDATE, STABLE, [], 0.0)
    for source in ("one", "two"):
        ledger = added(ledger, [Tallies(source, {STABLE: {"n1": Tally(requests=5)}})], Terms().tolerances, 1.0)
    assert ledger.of(STABLE).requests == 10


def test_two_gateways_give_the_evidence_of_one():
    traffic, split = Traffic(seed=8), opened(CANDIDATE, STABLE, [], 0.0)
    traffic.shadow(Behaviour(errors=0.05), looks=5)
    gateway = traffic.gateway()
    parts = [Tallies(r, {r: nodes}) for r, nodes in gateway.revisions.items()]
    split = added(split, parts, traffic.terms.tolerances, 1.0)
    assert split.totals == traffic.ledger.totals


def test_an_account_survives_as_a_document():
    traffic = Traffic()
    traffic.shadow(Behaviour(errors=0.02), looks=5)
    traffic.count(CANDIDATE, Tally(requests=2, memory={"r1": memory([100, 101, 102, 110])}), "n3")
    traffic.look()
    assert ACROSS in traffic.ledger.pending
    stored = json.loads(json.dumps(ledger_json(traffic.ledger)))
    assert ledger_from(stored) == traffic.ledger
    with pytest.raises(StoreError, match="cannot be read"):
        ledger_from({**stored, "totals": 3})


def test_the_same_document_leads_to_the_same_verdict_in_another_process():
    first = Traffic(seed=2)
    first.shadow(Behaviour(errors=0.02), looks=5)
    restored = ledger_from(json.loads(json.dumps(ledger_json(first.ledger))))
    assert judge(restored, first.terms, 0.02) == first.judgement


def test_a_leak_is_harmful_and_a_level_is_not():
    for levels, expected in (
        ([300e6 + 2e6 * i for i in range(40)], HARMFUL),
        ([300e6 + 1e6 * (i % 5) for i in range(400)], OPEN),
        ([300e6 * (1.2 - 0.2 * math.exp(-i / 3)) for i in range(200)], OPEN),
    ):
        traffic = Traffic()
        traffic.count(CANDIDATE, Tally(requests=1, memory={"r1": memory(levels)}))
        assert traffic.look().finding is expected


def test_terms_come_from_the_spec_and_survive_as_a_document():
    spec = PlatformSpec.model_validate(
        {
            "system": "img",
            "release": {"false_alarms": "2%", "margins": {"errors": "1%"}, "unproven": "pass", "on_fail": "pause"},
            "environments": {"production": {"approve": ("ada",)}},
        }
    )
    terms = terms_of(spec)
    assert (terms.false_alarm_ratio, terms.errors_margin, terms.passes_unproven, terms.halts) == (
        0.02,
        0.01,
        True,
        True,
    )
    assert terms.approvers == ("ada",)
    assert terms_from(json.loads(json.dumps(terms_json(terms)))) == terms
    assert terms_from({}) == Terms()


def test_every_guard_is_told_of_in_words_and_figures():
    traffic = Traffic()
    traffic.shadow(Behaviour(disagreement=0.01), looks=30, labelled=5)
    traffic.count(CANDIDATE, Tally(requests=1, memory={"r1": memory([100, 101, 102, 103, 104])}))
    judgement = traffic.look()
    results = guard_results(traffic.ledger, judgement, traffic.terms, traffic.expected)
    assert [r.name for r in results] == list(WEIGHTS)
    assert all(r.passed and "to 1" in r.reason for r in results)
    errors = results[0]
    assert errors.evidence["candidate"][1] == 601
    assert errors.evidence["bound"] > 0.005
