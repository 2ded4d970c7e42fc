"""Requests share calls, in turns, within bounds; lost calls are tried once more, in moderation."""

import asyncio

import pytest

from platformops.gateway import batching
from platformops.gateway.batching import ClientGone, Lane, QueueFull
from platformops.gateway.call import Answer, ReplicaDied, RevisionUnavailable, RevisionUnknown
from platformops.gateway.trace_context import Trail, named_by


class Replica:
    """Answers when released; remembers what came together."""

    def __init__(self, *, held=True):
        self.calls = []
        self.gates = []
        self.held = held
        self.failures = []
        self.traces = []

    async def __call__(self, revision, items, *, deadline, queued, traces=()):
        self.traces.append(list(traces))
        self.calls.append([bytes(i) for i in items])
        if self.held:
            gate = asyncio.Event()
            self.gates.append(gate)
            await gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        return [Answer(200, b"<" + item + b">") for item in items]

    async def release(self, index=-1):
        self.gates[index].set()
        await settle()


async def settle():
    for _ in range(10):
        await asyncio.sleep(0)


def lane_of(replica, *, width=1, batch=4, max_queue=100, beside=tuple):
    return Lane("r1", call=replica, width=lambda: width, batch=batch, max_queue=max_queue, beside=beside)


def submit(lane, *items, caller="a", timeout_s=30.0, **kwargs):
    deadline = asyncio.get_running_loop().time() + timeout_s
    return asyncio.create_task(lane.submit([i.encode() for i in items], caller=caller, deadline=deadline, **kwargs))


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 20))


def test_a_lone_request_leaves_at_once_and_those_that_wait_meanwhile_leave_together():
    async def go():
        replica = Replica()
        lane = lane_of(replica)
        tasks = [submit(lane, "1"), submit(lane, "2"), submit(lane, "3"), submit(lane, "4")]
        await settle()
        assert replica.calls == [[b"1"]]
        await replica.release()
        assert replica.calls == [[b"1"], [b"2", b"3", b"4"]]
        await replica.release()
        assert [(await t)[0].json for t in tasks] == [b"<1>", b"<2>", b"<3>", b"<4>"]
        assert lane.is_idle
        assert (lane.queued, lane.in_flight) == (0, 0)

    run(go())


def test_a_call_is_told_of_the_spans_of_the_traced_requests_in_it_and_these_of_the_call():
    async def go():
        replica, trails = Replica(), [Trail("one", "1" * 32), Trail("other", "2" * 32)]
        lane = lane_of(replica)
        first = submit(lane, "1")
        await settle()
        tasks = [submit(lane, "2", trail=trails[0]), submit(lane, "3"), submit(lane, "4", trail=trails[1])]
        await settle()
        await replica.release()
        await replica.release()
        for task in (first, *tasks):
            await task
        assert replica.traces[0] == []
        told = [named_by(trace.encode()) for trace in replica.traces[1]]
        assert [(t.trace_id, t.is_sampled) for t in told] == [("1" * 32, True), ("2" * 32, True)]
        assert [t.span_id for t in told] == [trail.calls[0].span_id for trail in trails]
        assert [len(trail.calls) for trail in trails] == [1, 1]

    run(go())


def test_no_call_carries_more_than_the_batch_and_a_large_request_is_put_together_again():
    async def go():
        replica = Replica(held=False)
        answers = await submit(lane_of(replica, batch=4), *"abcdefghij")
        assert [len(c) for c in replica.calls] == [4, 4, 2]
        assert b"".join(a.json for a in answers) == b"".join(b"<%c>" % c for c in b"abcdefghij")

    run(go())


def test_as_many_calls_are_in_flight_as_there_are_replicas():
    async def go():
        replica = Replica()
        lane = lane_of(replica, width=3, batch=1)
        tasks = [submit(lane, str(n)) for n in range(5)]
        await settle()
        assert len(replica.calls) == 3
        assert (lane.in_flight, lane.queued) == (3, 2)
        for task in tasks:
            task.cancel()

    run(go())


def test_callers_take_turns():
    async def go():
        replica = Replica()
        lane = lane_of(replica, batch=2)
        tasks = [submit(lane, "first")] + [submit(lane, f"greedy{n}", caller="greedy") for n in range(6)]
        tasks.append(submit(lane, "modest", caller="modest"))
        await settle()
        await replica.release()
        assert replica.calls[1] == [b"greedy0", b"modest"]
        for task in tasks:
            task.cancel()

    run(go())


def test_a_full_queue_refuses_at_once_and_takes_again_later():
    async def go():
        replica = Replica()
        lane = lane_of(replica, max_queue=2)
        first, waiting = submit(lane, "1"), submit(lane, "2", "3")
        await settle()
        assert lane.is_full
        with pytest.raises(QueueFull):
            await submit(lane, "4")
        replica.held = False
        await replica.release()
        await asyncio.gather(first, waiting)
        assert (await submit(lane, "5"))[0].is_ok

    run(go())


def test_an_item_whose_deadline_passed_in_the_queue_is_answered_and_never_sent():
    async def go():
        replica = Replica()
        lane = lane_of(replica)
        first = submit(lane, "1")
        late = submit(lane, "2", timeout_s=0.05)
        assert (await late)[0].code == "deadline_exceeded"
        await replica.release()
        await first
        assert replica.calls == [[b"1"]]
        assert lane.queued == 0

    run(go())


class Line:
    """A client's connection: remembers what to call when it hangs up."""

    def __init__(self):
        self.hang_up = None

    def __call__(self, call):
        self.hang_up = call


def test_a_client_that_hung_up_leaves_the_queue_at_once_and_is_not_worked_for():
    async def go():
        replica, line = Replica(), Line()
        lane = lane_of(replica, max_queue=2)
        first, gone = submit(lane, "1"), submit(lane, "2", "3", when_gone=line)
        await settle()
        assert lane.is_full
        line.hang_up()
        assert lane.queued == 0
        with pytest.raises(ClientGone):
            await gone
        await replica.release()
        await first
        assert replica.calls == [[b"1"]]

    run(go())


def test_a_client_that_hung_up_before_it_was_queued_is_not_worked_for():
    async def go():
        replica = Replica()
        with pytest.raises(ClientGone):
            await submit(lane_of(replica), "1", when_gone=lambda call: call())
        assert replica.calls == []

    run(go())


def test_a_call_that_only_clients_who_hung_up_waited_for_is_cancelled_and_the_next_one_leaves():
    async def go():
        replica, line, other = Replica(), Line(), Line()
        lane = lane_of(replica)
        gone, alone, last = submit(lane, "1", when_gone=line), submit(lane, "2", when_gone=other), submit(lane, "3")
        await settle()
        line.hang_up()
        await settle()
        assert isinstance(gone.exception(), ClientGone)
        assert replica.calls == [[b"1"], [b"2", b"3"]]
        assert (lane.queued, lane.in_flight) == (0, 2)
        other.hang_up()
        await settle()
        assert not alone.done(), "its bytes are on their way with those of another"
        await replica.release()
        assert isinstance(alone.exception(), ClientGone)
        assert (await last)[0].json == b"<3>"
        assert lane.is_idle

    run(go())


def test_a_large_request_whose_client_hung_up_sends_no_more_of_itself():
    async def go():
        replica, line = Replica(), Line()
        lane = lane_of(replica, batch=2)
        gone, other = submit(lane, *"abcdef", when_gone=line), submit(lane, "x", caller="b")
        await settle()
        line.hang_up()
        await settle()
        assert replica.calls == [[b"a", b"b"], [b"x"]]
        await replica.release()
        assert isinstance(gone.exception(), ClientGone)
        assert (await other)[0].is_ok
        assert (lane.queued, lane.in_flight) == (0, 0)

    run(go())


def test_requests_past_their_deadline_make_room_in_the_queue_although_no_call_returns():
    async def go():
        replica = Replica()
        lane = lane_of(replica, max_queue=2)
        first, late = submit(lane, "1"), submit(lane, "2", "3", timeout_s=0.05)
        assert {a.code for a in await late} == {"deadline_exceeded"}
        assert lane.queued == 0
        first.cancel()

    run(go())


def test_a_cancelled_request_leaves_the_queue():
    async def go():
        replica = Replica()
        lane = lane_of(replica)
        first, cancelled = submit(lane, "1"), submit(lane, "2")
        await settle()
        cancelled.cancel()
        await settle()
        await replica.release()
        await first
        assert replica.calls == [[b"1"]]

    run(go())


def test_a_call_whose_replica_died_is_made_once_more():
    async def go():
        replica = Replica(held=False)
        replica.failures = [ReplicaDied()]
        assert (await submit(lane_of(replica), "1"))[0].is_ok
        assert replica.calls == [[b"1"], [b"1"]]

    run(go())


def test_a_second_death_is_told():
    async def go():
        replica = Replica(held=False)
        replica.failures = [ReplicaDied(), ReplicaDied()]
        answers = await submit(lane_of(replica), "1", "2")
        assert [(a.status, a.code) for a in answers] == [(503, "replica_died")] * 2

    run(go())


def test_a_replica_that_is_stuck_is_given_up_half_way_and_another_is_asked():
    async def go():
        replica = Replica()
        task = submit(lane_of(replica), "1", timeout_s=0.4)
        while len(replica.calls) < 2:
            await asyncio.sleep(0.01)
        await replica.release()
        assert (await task)[0].is_ok

    run(go())


def test_retries_stop_when_everything_fails_so_that_they_do_not_double_an_overload():
    async def go():
        replica = Replica(held=False)
        lane = lane_of(replica)
        replica.failures = [ReplicaDied() for _ in range(500)]
        for n in range(200):
            await submit(lane, str(n))
        assert len(replica.calls) <= 200 + batching.RETRY_FLOOR + 200 * batching.RETRY_RATIO + 1

    run(go())


@pytest.mark.parametrize(
    ("failure", "status"), [(RevisionUnavailable(), 503), (RevisionUnknown(), 404), (RuntimeError("x"), 500)]
)
def test_other_failures_become_answers_and_the_lane_goes_on(failure, status):
    async def go():
        replica = Replica(held=False)
        replica.failures = [failure]
        lane = lane_of(replica)
        assert (await submit(lane, "1"))[0].status == status
        assert (await submit(lane, "2"))[0].is_ok

    run(go())


def test_a_replica_that_answers_too_few_items_is_not_believed():
    async def short(revision, items, *, deadline, queued):
        return [Answer(200, b"{}")]

    async def go():
        assert [a.code for a in await submit(lane_of(short), "1", "2")] == ["replica_failed"] * 2

    run(go())


def beside(stable, candidate, *, waiting):
    """Two lanes that share a machine, the first with one call under way and `waiting` items behind it."""
    lanes = []
    lanes += [lane_of(stable, beside=lambda: lanes), lane_of(candidate, beside=lambda: lanes)]
    tasks = [submit(lanes[0], str(number)) for number in range(1 + waiting)]
    return lanes[1], tasks


def test_few_items_beside_a_crowded_lane_wait_for_more_and_leave_together_though_nothing_returned():
    async def go():
        stable, candidate = Replica(), Replica(held=False)
        lane, tasks = beside(stable, candidate, waiting=20)
        await settle()
        few = [submit(lane, "a"), submit(lane, "b")]
        await settle()
        assert candidate.calls == []
        assert [(await t)[0].json for t in few] == [b"<a>", b"<b>"]
        assert candidate.calls == [[b"a", b"b"]]
        assert len(stable.calls) == 1
        for task in tasks:
            task.cancel()

    run(go())


def test_a_request_beside_a_lane_with_as_few_as_itself_leaves_at_once():
    async def go():
        candidate = Replica()
        lane, tasks = beside(Replica(), candidate, waiting=3)
        await settle()
        few = submit(lane, "a")
        await settle()
        assert candidate.calls == [[b"a"]]
        for task in (*tasks, few):
            task.cancel()

    run(go())
