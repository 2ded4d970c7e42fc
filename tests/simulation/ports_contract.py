"""What the controller relies on, of the fake cluster and of the real one alike."""

from platformops.delivery.records import ExaminationKind, Examine, RevisionState, Rollout, RolloutState, Route
from platformops.errors import PlatformError


class PortsContract:
    """Subclasses give `bench`: `ports`, a `good` and a `broken` revision, and `until` and `pass_a_moment` for time."""

    def state(self, bench, revision):
        seen = bench.ports.revisions().get(revision.name)
        return seen.state if seen else RevisionState.ABSENT

    def test_a_revision_lives_from_deploy_to_remove_and_saying_it_twice_changes_nothing(self, bench):
        ports, good = bench.ports, bench.good
        ports.remove(good.name)
        assert self.state(bench, good) is RevisionState.ABSENT
        ports.deploy(good)
        ports.deploy(good)
        bench.until(lambda: self.state(bench, good) is RevisionState.READY)
        seen = ports.revisions()[good.name]
        assert seen.ready == seen.wanted == 1
        ports.deploy(good)
        assert ports.revisions()[good.name] == seen
        ports.remove(good.name)
        ports.remove(good.name)
        bench.until(lambda: self.state(bench, good) is RevisionState.ABSENT)

    def test_a_revision_that_cannot_start_fails_with_its_reason_and_is_started_afresh_when_asked(self, bench):
        ports, broken = bench.ports, bench.broken
        ports.deploy(broken)
        bench.until(lambda: self.state(bench, broken) is RevisionState.FAILED)
        first = ports.revisions()[broken.name]
        assert first.reason
        assert first.ready == 0
        bench.pass_a_moment()
        ports.deploy(broken)
        again = ports.revisions()[broken.name]
        assert again.deployed_at > first.deployed_at
        ports.remove(broken.name)
        bench.until(lambda: self.state(bench, broken) is RevisionState.ABSENT)

    def test_a_route_is_followed_at_once_and_never_goes_back(self, bench):
        ports, system = bench.ports, bench.good.system
        weights = {bench.good.name: 100.0}
        ports.set_route(Route(system, weights, 5))
        assert ports.routed((system,)) == {system: 5}
        ports.set_route(Route(system, weights, 5))
        ports.set_route(Route(system, weights, 6))
        try:
            ports.set_route(Route(system, weights, 5))
            raise AssertionError("an older route was taken")
        except PlatformError:
            pass
        assert ports.routed((system,)) == {system: 6}
        assert ports.routed(("another",)) == {}

    def test_evidence_is_there_once_it_was_asked_for_and_gathered(self, bench):
        ports, good = bench.ports, bench.good
        rollout = Rollout(
            good.system, good.number, good, None, RolloutState.PENDING, 0, ("100%",), {}, (), "", 0.0, 0.0
        )
        request = Examine(ExaminationKind.OFFLINE, rollout)
        assert ports.examined(request.key) is None
        ports.examine(request)
        ports.examine(request)
        bench.until(lambda: ports.examined(request.key) is not None)
        found = ports.examined(request.key)
        assert found.problem == ""
        assert found.metrics["accuracy"] >= 0
        assert ports.examined(request.key) == found

    def test_what_was_counted_is_told_by_gateway_and_says_the_same_twice(self, bench):
        counted = bench.ports.tallies()
        assert len({tallies.source for tallies in counted}) == len(counted)
        assert bench.ports.tallies() == counted

    def test_there_is_a_living_node(self, bench):
        assert "alive" in {node.state for node in bench.ports.nodes()}
        assert all(node.id and node.address for node in bench.ports.nodes())
