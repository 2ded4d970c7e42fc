"""The fake cluster keeps the contract of the real one."""

from dataclasses import dataclass

import pytest

from platformops.clock import ManualClock
from platformops.delivery.records import Revision
from tests.simulation.ports_contract import PortsContract
from tests.simulation.world import FakeCluster, Script


@dataclass
class Bench:
    ports: FakeCluster
    good: Revision
    broken: Revision

    def pass_a_moment(self):
        self.ports.clock.sleep(0.01)

    def until(self, condition):
        for _ in range(1000):
            if condition():
                return
            self.ports.clock.sleep(0.5)
        raise AssertionError("never came")


class TestFakeCluster(PortsContract):
    @pytest.fixture
    def bench(self):
        good = Revision("img", 1, 1, "a", "d", 1, 1)
        broken = Revision("img", 2, 2, "a", "d", 1, 1)
        return Bench(FakeCluster(ManualClock(), Script(broken={broken.name: "no torch"})), good, broken)
