"""Replicas that listen on sockets of their own, and channels to them: real sockets in one loop."""

import asyncio
import contextlib
import os
import socket
import sys

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from platformops.gateway.call import Origin, ReplicaDied
from platformops.gateway.channels import MOST_CALLS, STALE_S, Channel, Channels, ReplicaFailed
from platformops.gateway.frames import Answered, Asked, Failed, FrameBroken, Leaving, Reader, encoded
from platformops.gateway.listener import Listener
from platformops.security import peers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="their names are in Linux's abstract namespace")
ORIGIN = Origin("node", "replica", 12, (0.1, 0.2, 0.3), 0.4)


class Replica:
    """Its socket, what came through it, and a gate that answers wait at."""

    def __init__(self, name="replica"):
        self.name, self.calls, self.traces, self.gate = name, [], [], asyncio.Event()
        self.gate.set()
        self.listener = Listener(self.answer)

    async def answer(self, items, queued, traces):
        self.calls.append((items, queued))
        self.traces.append(traces)
        await self.gate.wait()
        if b"bad" in items:
            raise ValueError("a bad item")
        return ORIGIN._replace(replica=self.name), [(200, b"<" + item + b">", "", "", "v1") for item in items]


@contextlib.asynccontextmanager
async def house(*replicas):
    """Channels to all of `replicas`, and these; closed afterwards."""
    channels = Channels()
    for replica in replicas:
        await replica.listener.open()
        channels.learn(replica.listener.name)
    await settle(lambda: channels.next(len(replicas), 0.0) is not None)
    await settle(lambda: all(replica.listener.connections for replica in replicas))
    try:
        yield channels, *replicas
    finally:
        for replica in replicas:
            replica.gate.set()
            await replica.listener.close()
        channels.close()
        for _ in range(10):  # what is closed ends in the loop's next rounds
            await asyncio.sleep(0)


async def settle(condition):
    while not condition():
        await asyncio.sleep(0)


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request):
    """Runs a coroutine to its end in each kind of loop: gateways and replicas have the second."""

    def in_loop(coroutine):
        with asyncio.Runner(loop_factory=request.param) as runner:
            return runner.run(asyncio.wait_for(coroutine, 60))

    return in_loop


def test_items_come_back_in_order_with_where_they_were_answered(run):
    async def go():
        async with house(Replica()) as (channels, replica):
            items = [bytes([n]) * n * 1000 for n in range(60)]
            origin, rows = await channels.next(1, 0.0).call(items, 7)
            assert replica.calls == [(items, 7)]
            assert origin == ORIGIN
            assert rows == [(200, b"<" + item + b">", "", "", "v1") for item in items]

    run(go())


def test_the_replica_is_told_which_spans_a_call_belongs_to(run):
    async def go():
        async with house(Replica()) as (channels, replica):
            await channels.next(1, 0.0).call([b"x"], 0, ["00-one-span-01", "00-other-span-01"])
            await channels.next(1, 0.0).call([b"x"], 0)
            assert replica.traces == [("00-one-span-01", "00-other-span-01"), ()]

    run(go())


def test_calls_are_spread_and_one_that_nobody_waits_for_still_counts_against_its_replica(run):
    async def go():
        async with house(Replica("one"), Replica("other")) as (channels, *both):
            for replica in both:
                replica.gate.clear()
            calls = []
            for _ in both:
                calls.append(asyncio.create_task(channels.next(2, 0.0).call([b"x"], 0)))
                await settle(lambda: sum(len(r.calls) for r in both) == len(calls))
            assert [len(replica.calls) for replica in both] == [1, 1]
            calls[0].cancel()
            both[1].gate.set()
            origin, _ = await calls[1]
            for _ in range(4):
                again, _ = await channels.next(2, 0.0).call([b"again"], 0)
                assert again.replica == origin.replica == "other"
            both[0].gate.set()
            await settle(lambda: not any(channel.given_up for channel in channels._open.values()))

    run(go())


def test_a_replica_that_holds_all_it_may_is_left_to_whoever_else_spreads_calls(run):
    async def go():
        async with house(Replica()) as (channels, replica):
            replica.gate.clear()
            calls = []
            for _ in range(MOST_CALLS):
                calls.append(asyncio.create_task(channels.next(1, 0.0).call([b"x"], 0)))
                await asyncio.sleep(0)
            assert channels.next(1, 0.0) is None
            replica.gate.set()
            assert [rows for _, rows in await asyncio.gather(*calls)] == [[(200, b"<x>", "", "", "v1")]] * MOST_CALLS
            assert channels.next(1, 0.0) is not None

    run(go())


def test_channels_are_used_only_when_they_reach_every_replica(run):
    async def go():
        assert Channels().next(0, 0.0) is None
        async with house(Replica()) as (channels, _):
            assert channels.next(1, 0.0) is not None
            assert channels.next(2, 0.0) is None
            assert channels.next(0, 0.0) is None

    run(go())


def test_a_call_that_fails_says_why_and_the_next_one_is_answered(run):
    async def go():
        async with house(Replica()) as (channels, _):
            with pytest.raises(ReplicaFailed, match="ValueError: a bad item"):
                await channels.next(1, 0.0).call([b"bad"], 0)
            assert (await channels.next(1, 0.0).call([b"good"], 0))[1][0][1] == b"<good>"

    run(go())


def test_a_replica_that_dies_fails_its_calls_at_once_and_its_address_is_not_tried_again(run):
    async def go():
        async with house(Replica()) as (channels, replica):
            replica.gate.clear()
            call = asyncio.create_task(channels.next(1, 0.0).call([b"x"], 0))
            await settle(lambda: replica.calls)
            for connection in replica.listener.connections:
                connection._transport.abort()
            with pytest.raises(ReplicaDied):
                await call
            assert channels.next(1, 0.0) is None
            channels.learn(replica.listener.name)
            assert not channels._opening

    run(go())


def test_while_a_death_is_not_known_yet_the_others_are_called_and_later_whoever_replaces_it_is_waited_for(run):
    async def go():
        async with house(Replica("dead"), Replica("living")) as (channels, dead, living):
            for connection in list(dead.listener.connections):
                connection._transport.abort()
            await settle(lambda: sum(channel.is_open for channel in channels._open.values()) == 1)
            origin, _ = await channels.next(2, 100.0).call([b"x"], 0)
            assert origin.replica == "living"
            assert channels.next(2, 100.0 + STALE_S) is None
            assert channels.next(1, 100.0 + STALE_S) is not None
            assert living.calls == [([b"x"], 0)]

    run(go())


def test_a_replica_that_leaves_answers_what_it_has_and_is_given_nothing_more(run):
    async def go():
        async with house(Replica()) as (channels, replica):
            replica.gate.clear()
            channel = channels.next(1, 0.0)
            call = asyncio.create_task(channel.call([b"last"], 0))
            await settle(lambda: replica.calls)
            leaving = asyncio.create_task(replica.listener.close())
            await settle(lambda: channel.is_leaving)
            assert channels.next(1, 0.0) is None
            assert not leaving.done()
            replica.gate.set()
            assert (await call)[1][0][1] == b"<last>"
            await leaving
            await settle(lambda: not channel.is_open)
            with pytest.raises(ReplicaDied):
                await channel.call([b"late"], 0)

    run(go())


def test_who_comes_while_a_replica_stops_listening_is_sent_away(run):
    async def go():
        replica = Replica()
        await replica.listener.open()
        channels = Channels()
        channels.learn(replica.listener.name)
        await replica.listener.close()
        await settle(lambda: not channels._opening)
        await settle(lambda: channels.next(1, 0.0) is None)
        assert not replica.listener.connections

    run(go())


def test_an_address_at_which_nobody_listens_is_no_error(run):
    async def go():
        channels = Channels()
        channels.learn("platformops-nobody")
        channels.learn("")
        await settle(lambda: "platformops-nobody" in channels._shut)
        assert channels.next(1, 0.0) is None

    run(go())


def heard_as(user, address):
    """What a process of `user` is told when it sends a call."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setuid(user)
            with socket.socket(socket.AF_UNIX) as stranger:
                stranger.settimeout(30)
                stranger.connect(f"\0{address}")
                stranger.sendall(encoded(Asked(1, [b"x"], 0)))
                os.write(writes, stranger.recv(9))
        finally:
            os._exit(0)
    os.close(writes)
    with os.fdopen(reads, "rb") as told:
        heard = told.read()
    os.waitpid(child, 0)
    return heard


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become another user")
def test_another_user_of_the_machine_is_not_let_in(run):
    async def go():
        async with house(Replica()) as (_, replica):
            assert not await asyncio.to_thread(heard_as, 65534, replica.listener.name)
            assert not replica.calls
            assert await asyncio.to_thread(heard_as, 0, replica.listener.name)
            assert replica.calls == [([b"x"], 0)]

    run(go())


def test_a_gateway_tells_nothing_to_a_listener_of_another_user(run, monkeypatch):
    async def go():
        async with house(Replica()) as (_, replica):
            monkeypatch.setattr(peers.os, "getuid", lambda: 65534)
            channels = Channels()
            channels.learn(replica.listener.name)
            await settle(lambda: not channels._opening)
            assert channels.next(1, 0.0) is None
            assert not replica.calls

    run(go())


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n" * 4, encoded(Leaving()), b"\0\0\0\2\0\0\0\0{}"])
def test_what_is_no_call_ends_the_connection_and_nothing_else(run, garbage):
    async def go():
        async with house(Replica()) as (channels, replica):
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(f"\0{replica.listener.name}")
            connection.setblocking(False)
            reader, writer = await asyncio.open_unix_connection(sock=connection)
            writer.write(garbage)
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
            assert (await channels.next(1, 0.0).call([b"x"], 0))[1][0][0] == 200

    run(go())


def test_an_answer_to_nothing_breaks_the_channel(run):
    async def go():
        channel = Channel()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        await asyncio.get_running_loop().create_unix_connection(lambda: channel, sock=ours)
        call = asyncio.create_task(channel.call([b"x"], 0))
        theirs.sendall(encoded(Answered(99, ORIGIN, [])))
        with pytest.raises(ReplicaDied):
            await call
        theirs.close()

    run(go())


FRAMES = st.one_of(
    st.builds(Asked, st.integers(0, 2**40), st.lists(st.binary(max_size=50), max_size=5), st.integers(0, 9)),
    st.builds(
        Answered,
        st.integers(0, 2**40),
        st.just(ORIGIN),
        st.lists(st.tuples(st.integers(100, 599), st.binary(max_size=50), st.text(), st.text(), st.text()), max_size=5),
    ),
    st.builds(Failed, st.integers(0, 9), st.text()),
    st.just(Leaving()),
)


@given(st.lists(FRAMES, max_size=5), st.integers(1, 64))
def test_frames_are_read_as_they_were_written_however_they_are_cut(frames, step):
    written = b"".join(encoded(frame) for frame in frames)
    reader = Reader()
    pieces = [written[at : at + step] for at in range(0, len(written), step)]
    assert [frame for piece in pieces for frame in reader.read(piece)] == frames


@given(st.binary(min_size=8, max_size=200))
def test_no_bytes_do_more_than_break_the_frame(data):
    with contextlib.suppress(FrameBroken):
        list(Reader().read(data))
