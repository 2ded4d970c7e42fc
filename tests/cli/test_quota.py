"""What a team may use: set, shown, kept with who wished it, and passed on by the controller."""

from contextlib import closing

import pytest

from platformops.cli.quota import set_team
from platformops.delivery.decisions import explain
from platformops.scheduler.records import Team
from platformops.store.open import open_store
from tests.simulation.fleet_world import FleetWorld


def test_limits_are_set_changed_and_taken_away_one_by_one(platformops):
    assert platformops("quota", "--json").json == {"teams": []}
    first = platformops("quota", "vision", "--cpus", "8", "--share", "2", "--json")
    assert first.json == {"teams": [{"team": "vision", "share": 2.0, "quota": {"CPU": 8.0}}]}
    platformops("quota", "speech", "--gpus", "1")
    assert platformops("quota", "vision", "--gpus", "2", "--json").json["teams"][0]["quota"] == {"CPU": 8.0, "GPU": 2.0}
    assert platformops("quota", "vision", "--cpus", "none", "--json").json["teams"][0]["quota"] == {"GPU": 2.0}
    shown = platformops("quota")
    assert shown.code == 0
    assert "vision" in shown.out
    assert "speech" in shown.out


@pytest.mark.parametrize(
    "arguments",
    [("vision", "--cpus", "0"), ("vision", "--cpus", "-1"), ("vision", "--gpus", "lots"), ("vision", "--share", "inf"),
     ("vision", "--share", "nan"), ("--cpus", "4")],
)  # fmt: skip
def test_what_is_no_limit_is_refused_and_nothing_is_kept(platformops, arguments):
    refused = platformops("quota", *arguments)
    assert refused.code == 2
    assert "quota" in refused.err or "--" in refused.err
    assert platformops("quota", "--json").json == {"teams": []}


def test_who_wished_it_is_on_record_once(home):
    home.mkdir()
    with closing(open_store(f"sqlite:///{home / 'store.db'}")) as store:
        for now in (1.0, 2.0):
            set_team(store, "vision", None, {"CPU": 4.0}, "ada", now)
        (said,) = explain(store, "team vision")
    assert "CPU 4" in said.decision
    assert "ada" in said.decision


def test_the_controller_passes_it_on_and_again_after_it_was_killed():
    world = FleetWorld(2)
    assert world.fleet.teams == {}
    set_team(world.store, "vision", 2.0, {"CPU": 4.0}, "ada", world.clock.now())
    world.run(8)
    wanted = {"vision": Team("vision", 2.0, {"CPU": 4.0})}
    assert world.fleet.teams == wanted
    world.fleet.teams, world.controller = {}, None
    world.run(8)
    assert world.fleet.teams == wanted
