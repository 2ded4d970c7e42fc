"""The same idempotency key: one answer, computed once; another body is refused, and nobody meets another's answers."""

import asyncio
import json

import pytest

from platformops.gateway.replays import Replays, digest_of
from platformops.gateway.replies import Refused, Reply
from tests.gateway.door import Door, system

AGAIN = {"idempotency-key": "order-7"}


def code_of(response):
    return response.json()["error"]["code"]


def test_the_same_request_sent_again_gets_the_same_answer_and_is_computed_once(door):
    first, second = door.ask(headers=AGAIN), door.ask(headers=AGAIN)
    assert first.status_code == second.status_code == 200
    assert first.content == second.content
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert len(door.replicas.calls) == 1


def test_a_replay_counts_neither_as_items_nor_for_a_revision(door):
    door.ask(headers=AGAIN)
    door.ask(headers=AGAIN)
    first, second = door.seen
    assert (first.items, first.revision, first.is_replay) == (1, "digits-r1", False)
    assert (second.items, second.revision, second.is_replay) == (0, "", True)


def test_the_same_images_in_another_envelope_are_the_same_request(door):
    form = b'--%b\r\nContent-Disposition: form-data; name="images"\r\n\r\nimage\r\n--%b--\r\n'
    bodies = [(form % (b"a", b"a"), "multipart/form-data; boundary=a"), (b"image", "image/png")]
    answers = [door.ask(headers=AGAIN, content=content, kind=kind) for content, kind in bodies]
    assert answers[0].content == answers[1].content
    assert len(door.replicas.calls) == 1


@pytest.mark.parametrize("content", [b"imagf", b"imag", b"images"])
def test_another_body_under_the_same_key_is_409_and_the_first_answer_stays(door, content):
    first = door.ask(headers=AGAIN)
    refused = door.ask(headers=AGAIN, content=content)
    assert (refused.status_code, code_of(refused)) == (409, "idempotency_key_reused")
    assert door.ask(headers=AGAIN).content == first.content


def test_callers_and_systems_do_not_meet_in_a_key():
    door = Door()
    door.serve(system(), system("faces"))
    door.replicas.deployed.add("faces-r1")
    asked = [
        door.ask(headers=AGAIN, content=who.encode() + path.encode(), who=who, path=path)
        for who, path in (("predict", "/digits/predict"), ("operate", "/digits/predict"), ("operate", "/faces/predict"))
    ]
    assert [a.status_code for a in asked] == [200, 200, 200]
    assert len(door.replicas.calls) == 3


def test_a_refusal_is_not_kept_so_that_trying_again_can_help(door):
    assert door.ask(headers=AGAIN, content=b"bad").status_code == 422

    async def fail(revision, items):
        raise RuntimeError

    door.replicas.behave = fail
    assert door.ask(headers=AGAIN).status_code == 500
    door.replicas.behave = None
    assert door.ask(headers=AGAIN).status_code == 200


def test_one_that_arrives_while_the_first_is_computed_waits_for_its_answer(door):
    async def go():
        release = asyncio.Event()

        async def wait(revision, items):
            await release.wait()

        door.replicas.behave = wait
        async with door.client(headers={**door.auth(), **AGAIN, "content-type": "image/png"}) as client:
            ask = lambda content: asyncio.create_task(client.post("/digits/predict", content=content))  # noqa: E731
            both = [ask(b"image"), ask(b"image")]
            while not door.replicas.calls:
                await asyncio.sleep(0)
            other = await ask(b"other")
            release.set()
            return other, await asyncio.gather(*both)

    other, (first, second) = asyncio.run(go())
    assert other.status_code == 409
    assert first.content == second.content
    assert len(door.replicas.calls) == 1


def test_when_the_first_of_two_fails_the_second_is_computed_for_itself():
    async def go():
        replays, gate = Replays(), asyncio.Event()

        async def fails():
            await gate.wait()
            raise Refused(503, "replica_died", "gone")

        async def works():
            return Reply(200, b"answer")

        key, digest = ("k", "digits", b"1"), digest_of([b"x"])
        first = asyncio.create_task(replays.once(key, digest, fails, now=0.0))
        await asyncio.sleep(0)
        second = asyncio.create_task(replays.once(key, digest, works, now=0.0))
        await asyncio.sleep(0)
        gate.set()
        assert (await second)[0].body == b"answer"
        with pytest.raises(Refused):
            await first

    asyncio.run(go())


@pytest.mark.parametrize("value", ["", " ", "a b", "x" * 256, "é", "a\tb"])
def test_an_odd_key_is_refused_before_anything_is_computed(door, value):
    response = door.ask(headers={"idempotency-key": value.encode()})
    assert (response.status_code, code_of(response)) == (400, "bad_idempotency_key")
    assert door.replicas.calls == []


def test_two_keys_are_refused(door):
    async def go():
        async with door.client() as client:
            headers = [*door.auth().items(), ("content-type", "image/png"), *AGAIN.items(), *AGAIN.items()]
            return await client.post("/digits/predict", headers=headers, content=b"x")

    assert code_of(asyncio.run(go())) == "bad_idempotency_key"


def test_what_is_kept_is_bounded_by_age_number_and_bytes():
    async def made(replays, name, now=0.0, size=10):
        async def produce():
            return Reply(200, b"x" * size)

        return (await replays.once(("k", "digits", name), b"d", produce, now=now))[1]

    async def go():
        now = asyncio.get_running_loop().time()
        few = Replays(max_keys=2)
        assert [await made(few, name, now) for name in (b"1", b"2", b"3", b"4", b"3", b"1")] == [
            False, False, False, False, True, False,
        ]  # fmt: skip
        small = Replays(max_bytes=25)
        assert [await made(small, name, now) for name in (b"1", b"2", b"3", b"4", b"1")] == [False] * 5
        short = Replays(keep_s=5.0)
        assert not await made(short, b"1", now)
        assert await made(short, b"1", now + 4.0)
        assert not await made(short, b"1", now + 60.0)

    asyncio.run(go())


def test_where_a_part_ends_is_in_the_digest():
    assert digest_of([b"ab", b"c"]) != digest_of([b"a", b"bc"]) != digest_of([b"abc"])


def test_a_replay_stands_in_the_access_log(door):
    from platformops.gateway.access_log import line

    door.ask(headers=AGAIN)
    door.ask(headers=AGAIN)
    assert [json.loads(line(exchange)).get("platformops.replay", False) for exchange in door.seen] == [False, True]
