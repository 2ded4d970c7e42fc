"""The verbs on nodes, on what a simulated controller left in the store."""

import pytest

from platformops.cli.health import seen
from platformops.cli.nodes import put_wish
from platformops.clock import SystemClock
from platformops.errors import UserError
from platformops.fleet import STATUS
from platformops.health.calibration import Decided, Record, learn_outcomes
from platformops.health.nodes import LEARNT, Learnt, Wish, learnt_json
from platformops.health.wire import RayletState
from platformops.store.open import open_store
from tests.simulation.fleet_world import FleetWorld


@pytest.fixture(scope="module")
def world():
    made = FleetWorld(3)
    made.fleet["n2"].raylet = RayletState.GONE
    made.run(6)
    return made


@pytest.fixture
def kept(world, home):
    """The world's store as this home's; its controller has been silent for a minute."""
    home.mkdir(parents=True)
    store = open_store(f"sqlite:///{home / 'store.db'}")
    for entry in world.store.scan(""):
        value = {**entry.value, "at": SystemClock().now() - 60} if entry.key == STATUS else entry.value
        store.put(entry.key, value, expect=None)
    yield store
    store.close()


def test_health_tells_each_node_with_its_costs_and_last_events(world):
    document = seen(world.store, world.clock.now())
    rows = {row["id"]: row for row in document["nodes"]}
    assert (rows["n0"]["state"], rows["n2"]["state"]) == ("healthy", "dead")
    assert rows["n0"]["costs_slot_s"]["wait"] < rows["n0"]["costs_slot_s"]["cordon"]
    assert rows["n2"]["events"][0]["decision"] == "healthy -> dead"
    assert document["is_current"]


def test_health_is_a_table_for_people_and_an_object_for_programs(kept, platformops):
    out = platformops("health").out
    assert "n0 (head)" in out
    assert "n2: healthy -> dead: silent for" in out
    assert platformops("health", "--json").json["nodes"][0]["id"] == "n0"


def test_health_before_anything_ran_says_what_to_do(platformops):
    answer = platformops("health")
    assert (answer.code, answer.out) == (0, "No nodes are watched yet.\n")
    assert "platformops up" in answer.err
    assert "No judgement has come due yet" in platformops("health", "report").out


def test_the_report_draws_what_was_expected_beside_what_came(home, platformops):
    home.mkdir(parents=True)
    store = open_store(f"sqlite:///{home / 'store.db'}")
    outcomes = [Decided("node", 0.002, failed=number < 2) for number in range(900)]
    record = learn_outcomes(Record(0.0), [*outcomes, *(Decided("node", 0.5, failed=True) for _ in range(4))], 0.0)
    learnt = Learnt(record, deaths=4, foreseen=3, lead_s=(60.0, 90.0), remedies=4, right_remedies=2, saved_slot_s=7.0)
    store.put(LEARNT, learnt_json(learnt), expect=None)
    store.close()
    told = platformops("health", "report", "--json").json
    assert (told["recall"], told["precision"], told["lead_s"], told["saved_slot_s"]) == (0.75, 0.5, 75.0, 7.0)
    out = platformops("health", "report").out
    rare, likely = (next(line for line in out.splitlines() if line.startswith(start)) for start in ("0.10%", "30.00%"))
    assert abs(rare.rindex("x") - rare.rindex("o")) <= 1 < likely.rindex("o") - likely.rindex("x")


def test_health_of_something_else_exits_2(platformops):
    assert platformops("health", "of").code == 2


def test_why_node_tells_the_decision_with_its_evidence(kept, platformops):
    out = platformops("why", "node", "n2").out
    assert "n2: healthy -> dead" in out
    assert "its own kernel +12.0" in out
    assert platformops("why", "digits", "n2").code == 2


def test_a_cordon_is_kept_once_and_taken_back(kept, platformops):
    first = platformops("cordon", "n1", "--as", "ada", "--json")
    assert (first.code, first.json["changed"], first.json["wish"]) == (0, True, "cordoned")
    assert platformops("cordon", "n1", "--json").json["changed"] is False
    assert "cordoned by ada" in platformops("why", "node", "n1").out
    assert platformops("uncordon", "n1", "--json").json["changed"] is True


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("cordon", "n9"), 'there is no node "n9"'),
        (("cordon", "n"), "means 3 nodes"),
        (("drain", "head"), "holds the cluster's own servers"),
        (("drain", "n2"), "n2 is dead"),
        (("cordon", "\x1b[2J"), "there is no node"),
    ],
)
def test_a_wish_that_cannot_be_followed_exits_2_and_says_why(kept, platformops, arguments, said):
    answer = platformops(*arguments)
    assert answer.code == 2
    assert said in answer.err
    assert "fix:" in answer.err


def test_the_only_node_is_not_cordoned():
    world = FleetWorld(1)
    (row,) = world.status()["nodes"]
    with pytest.raises(UserError, match="only node"):
        put_wish(world.store, row, Wish.CORDONED, "ada", 0.0)


def test_a_drill_that_is_not_known_or_has_no_cluster_says_so(platformops, monkeypatch):
    assert "one of blip, controller" in platformops("drill", "node", "everything").err
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    answer = platformops("drill", "node", "kil")
    assert (answer.code, "did you mean" in answer.err) == (2, True)
