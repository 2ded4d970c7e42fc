"""A fleet that exists only in memory: probes, raylets and a network that do what a script says, beside a real store."""

from dataclasses import dataclass, field, replace

from platformops.clock import ManualClock
from platformops.delivery.decisions import explain
from platformops.errors import ClusterError
from platformops.fleet import STATUS, FleetController
from platformops.health.nodes import NODES, WISHES, Member, Wished, node_from, wish_json
from platformops.health.records import ChannelAnswer, Heartbeat
from platformops.health.vitals import CLOCK_STEP, DISK_FREE, FSYNC, MEMORY_AVAILABLE, MEMORY_STALL
from platformops.health.wire import RayletState, Report, Stopped
from platformops.replica_health import ReplicaHealth
from platformops.store.memory import MemoryStore
from tests.simulation.world import FaultyStore, Killed

TURN_S = 0.25
SOUND = {MEMORY_AVAILABLE: 0.7, MEMORY_STALL: 0.0, DISK_FREE: 0.5, FSYNC: 0.01, CLOCK_STEP: 0.0}


@dataclass
class Machine:
    """One node of the fleet and its state."""

    member: Member
    raylet: RayletState = RayletState.ANSWERS
    incarnation: int = 0
    """Of the probe that runs; 0 for none."""
    sequence: int = 0
    phase_s: float = 0.0
    due_s: float = 0.0
    is_cut_off: bool = False
    readings: dict = field(default_factory=lambda: dict(SOUND))
    stopped: dict = field(default_factory=dict)
    """(pid, started) -> since."""
    ended: list = field(default_factory=list)


class FakeFleet:
    """The fleet's ports: every act states an end, and is counted where it changes something."""

    def __init__(self, clock, num_nodes, *, touch=lambda what: None):
        self.clock, self.touch = clock, touch
        self.machines, self.gone, self.ended_servers = {}, [], []
        for number in range(num_nodes):
            member = Member(f"n{number}", f"10.0.0.{number}", True, is_head=number == 0, cpus=4.0, free_cpus=4.0)
            self.machines[member.id] = Machine(member, phase_s=number * 0.37 % 1.0)
        self.asked, self.effects, self.avoided, self.suspects, self.queued, self.saved = [], [], (), (), [], {}
        self.rates_per_s = {}
        self.serves_s, self.served_at = {}, 0.0
        """Revision -> node -> seconds that its calls take."""
        self.replicas = None
        """Lives of replicas, where there are any."""

    def __getitem__(self, node):
        return self.machines[node]

    def members(self):
        return [*self.gone, *(m.member for m in self.machines.values())]

    def replace(self, node, new):
        """The dead node's machine runs again, under another id."""
        old = self.machines.pop(node)
        self.gone.append(old.member)
        member = Member(new, old.member.address, True, cpus=4.0, free_cpus=4.0)
        self.machines[new] = Machine(member)

    def backlog(self):
        """What probes said while nobody read it is in the queue now."""
        self.queued = self.reports()

    def reports(self):
        now, found, self.queued = self.clock.now(), self.queued, []
        for machine in self.machines.values():
            while machine.incarnation and now >= machine.due_s:
                machine.due_s += 1.0
                found += self._beat(machine, now)
        return found

    def _beat(self, machine, now):
        if machine.is_cut_off:
            return []
        readings = dict(machine.readings) if machine.sequence % 5 == 0 else {}
        beat = Heartbeat(machine.member.id, machine.incarnation, machine.sequence, now)
        machine.sequence += machine.raylet is RayletState.ANSWERS
        if machine.raylet is RayletState.GONE:
            machine.incarnation = 0
        stopped = tuple(Stopped(pid, at, "ray::Worker", now - since) for (pid, at), since in machine.stopped.items())
        return [Report(beat, machine.raylet, readings, stopped)]

    def waiting(self):
        return []

    def serving(self):
        if self.clock.now() < self.served_at + 5.0:
            return None
        self.served_at = self.clock.now()
        return self.serves_s

    def lives(self):
        return self.replicas

    def answers(self):
        found, self.asked = self.asked, []
        return [(node, self._answer(self.machines[node])) for node in found if node in self.machines]

    def _answer(self, machine):
        if machine.is_cut_off or machine.raylet is RayletState.STOPPED:
            return ChannelAnswer.SILENT
        return ChannelAnswer.REFUSED if machine.raylet is RayletState.GONE else ChannelAnswer.ANSWERED

    def ask(self, node):
        self.asked.append(node)

    def order(self, order):
        machine = self.machines[order.node]
        if order.incarnation > machine.incarnation:
            machine.incarnation = 0
        if order.end_server:
            self.ended_servers.append(order.node)
        for process in order.kill:
            if machine.stopped.pop(process, None) is not None:
                machine.ended.append(process)
                self.effects.append(("kill", order.node, process))

    def place_probe(self, node, incarnation):
        self.touch(f"place {node}")
        machine = self.machines[node]
        if machine.raylet is RayletState.ANSWERS and machine.incarnation < incarnation and not machine.is_cut_off:
            machine.incarnation, machine.sequence = incarnation, 0
            machine.due_s = self.clock.now() + machine.phase_s
            self.effects.append(("probe", node, incarnation))

    def retire(self, node, reason):
        self.touch(f"retire {node}")
        self._change(node, "retire", is_alive=False)

    def drain(self, node, reason):
        self.touch(f"drain {node}")
        self._change(node, "drain", is_draining=True)

    def _change(self, node, what, **changes):
        machine = self.machines[node]
        after = replace(machine.member, **changes)
        if after != machine.member:
            machine.member = after
            self.effects.append((what, node))

    def checkpoint(self, node, at):
        self.touch("checkpoint")
        if at > self.saved.get(node, 0.0):
            self.saved[node] = at
            self.effects.append(("checkpoint", node))

    def avoid(self, nodes, suspects, rates_per_s):
        self.touch("avoid")
        self.suspects, self.rates_per_s = tuple(suspects), rates_per_s
        if tuple(nodes) != self.avoided:
            self.avoided = tuple(nodes)
            self.effects.append(("avoid", tuple(nodes)))

    def share(self, teams):
        self.touch("share")
        self.teams = dict(teams)

    def done(self, what):
        return [effect for effect in self.effects if effect[0] == what]


class FleetWorld:
    """Store, clock, fleet, and a controller that is replaced when it is killed."""

    def __init__(self, num_nodes=5, *, kill_at=(), clock=None, store=None):
        self.clock, self.touches, self.kill_at, self.kills = clock or ManualClock(), 0, set(kill_at), 0
        self.store = store or MemoryStore()
        self.fleet = FakeFleet(self.clock, num_nodes, touch=self._touch)
        self.controller = None
        self.run(20)

    def _touch(self, what):
        self.touches += 1
        if self.touches in self.kill_at:
            raise Killed(what)

    def turn(self):
        self.clock.sleep(TURN_S)
        try:
            if self.controller is None:
                store = FaultyStore(self.store, self._touch)
                self.controller = FleetController(
                    store, self.fleet, self.clock, "simulated", replicas=ReplicaHealth(store)
                )
            self.controller.turn()
        except ClusterError:
            pass
        except Killed:
            self.kills, self.controller = self.kills + 1, None

    def run(self, seconds):
        for _ in range(int(seconds / TURN_S)):
            self.turn()
        return self

    def until(self, condition, limit_s=60.0):
        """Seconds until it was true."""
        began = self.clock.now()
        while not condition():
            assert self.clock.now() - began < limit_s, self.status()
            self.turn()
        return self.clock.now() - began

    def wish(self, node, wish):
        self.store.put(WISHES + node, wish_json(Wished(wish, "ada", self.clock.now())), expect=None)

    def record(self, node):
        return node_from(self.store.get(NODES + node).value)

    def state(self, node):
        return self.record(node).condition.state.value

    def status(self):
        return self.store.get(STATUS).value

    def told(self, node):
        return [d.decision for d in explain(self.store, node)]
