"""The channel log: whatever ends the gateway, numbers go on, each means one event, and nobody misses or sees one twice."""

import asyncio
import random
import resource
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from engine.channels import ChannelSpec
from engine.frames import Push
from tests.web.test_channels import Recorder
from web.channel_log import ChannelLog
from web.channel_log_file import SEEN
from web.channel_message import Message
from web.channels import ChannelHub

SPEC = {"path": "/ws/dashboard", "on_connect": {"stats": "stats"}}


def push(number: int, event: str = "defect", **options: Any) -> Push:
    return Push("dashboard", event, number.to_bytes(16, "big"), str(number).encode(), time=number, **options)


class Clock:
    """Time that the test advances; what is due later never comes unless it says so."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[Any] = []

    def __call__(self) -> float:
        return self.now

    def later(self, delay: float, call: Any) -> "Clock":
        self.timers.append(call)
        return self

    def cancel(self) -> None:
        self.timers.clear()


class Gateway:
    """The hub of a gateway that can be killed and started again on the same file."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.path, self.clock = folder / "channels.db", Clock()
        self.spec = ChannelSpec.parse("dashboard", SPEC | options)
        self.start()

    def start(self) -> None:
        self.log = ChannelLog(self.path, "line", self.clock)
        self.hub = ChannelHub("line", {"dashboard": self.spec}, self.clock, self.clock.later, log=self.log)

    def kill(self) -> None:
        """End it here and now: a commit that has begun may come to its end, and nobody is told."""
        self.log.close()

    def restart(self) -> None:
        self.kill()
        self.clock.timers.clear()
        self.start()

    async def publish(self, *pushes: Push) -> None:
        """Return when the worker would have its acknowledgement."""
        if done := self.hub.publish(pushes):
            await asyncio.wait_for(done, 10)

    async def join(self, after: str = "") -> Recorder:
        client = Recorder()
        await self.hub.join(self.hub.channels["dashboard"], client, after=after)
        return client

    @property
    def run(self) -> str:
        return self.hub.channels["dashboard"].run


@pytest.fixture
async def gateway(tmp_path: Path) -> Any:
    gateway = Gateway(tmp_path)
    yield gateway
    gateway.kill()


def bodies(client: Recorder) -> list[int]:
    return [int(message.body) for message in client.got if message.event != "gap"]


def rows(path: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


async def test_a_restart_goes_on_with_run_number_history_and_kept_values(gateway: Gateway) -> None:
    client = await gateway.join()
    await gateway.publish(push(1), push(2, "stats", keep=True), push(3))
    assert [message.id.partition("-")[2] for message in client.got] == ["1", "2", "3"]
    run, last = gateway.run, client.got[0].id
    gateway.restart()
    assert gateway.run == run
    assert gateway.hub.kept("dashboard", "stats") == b"2"
    again = await gateway.join(after=last)
    await gateway.publish(push(3), push(2, "stats", keep=True), push(4))
    assert [(message.id, bodies(again)[at]) for at, message in enumerate(again.got)] == [
        (f"{run}-2", 2), (f"{run}-3", 3), (f"{run}-4", 4),
    ]  # fmt: skip
    assert (await gateway.join()).got[0].id == f"{run}-4", "a snapshot has the number that it was taken at"


async def test_nobody_sees_what_is_not_durable(gateway: Gateway) -> None:
    class Witness(Recorder):
        def send(self, message: Message) -> None:
            super().send(message)
            [[number]] = rows(gateway.path, "select number from channel")
            durable.append(int(message.id.partition("-")[2]) <= number)

    durable: list[bool] = []
    await gateway.publish(push(1))
    gateway.hub.channels["dashboard"].enter(witness := Witness(), "").release()
    for number in range(2, 40, 2):
        done = gateway.hub.publish([push(number), push(number + 1)])
        assert done is not None
        assert not done.done()
        if number % 3:
            await asyncio.wait_for(done, 10)
    await gateway.publish(push(99))
    assert durable == [True] * len(witness.got)
    assert bodies(witness) == [*range(2, 40), 99]


@pytest.mark.parametrize("seed", range(12))
async def test_a_kill_at_any_moment_makes_no_gap_and_no_double(tmp_path: Path, seed: int) -> None:
    chance, gateway = random.Random(seed), Gateway(tmp_path, history=10_000)
    acknowledged, seen, meaning = 0, list[int](), dict[str, int]()
    await gateway.publish()
    first = f"{gateway.run}-0"
    client = await gateway.join()
    while acknowledged < 300:
        last = seen_last(client, seen, meaning) or first
        if chance.random() < 0.2:
            gateway.restart()
            client = await gateway.join(after=last)
        upto = min(300, acknowledged + chance.randint(1, 20))
        done = gateway.hub.publish([push(number) for number in range(acknowledged + 1, upto + 1)])
        for _ in range(chance.randint(0, 6)):
            await asyncio.sleep(0)
        if chance.random() < 0.5 and done is not None:
            await asyncio.wait_for(done, 10)
        acknowledged = upto if done is None or done.done() else acknowledged
    seen_last(client, seen, meaning)
    assert seen == list(range(1, 301))
    gateway.kill()


def seen_last(client: Recorder, seen: list[int], meaning: dict[str, int]) -> str:
    """Move what a client has got to what was seen; return its last id ever."""
    for message in client.got:
        seen.append(int(message.body))
        assert meaning.setdefault(message.id, seen[-1]) == seen[-1], "a number means one event"
    client.got.clear()
    return next(reversed(meaning), "")


async def test_ids_are_known_long_after_their_messages_are_forgotten(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, history=5)
    for begin in range(0, SEEN + 10_000, 500):
        await gateway.publish(*(push(number) for number in range(begin, begin + 500)))
    gateway.restart()
    await gateway.publish(*(push(number) for number in range(10_000, SEEN + 10_000)))
    assert gateway.hub.report()["dashboard"]["sent"] == 0
    assert rows(gateway.path, "select count(*) from block")[0][0] == 1
    assert SEEN <= 500 * rows(gateway.path, "select count(*) from seen")[0][0] <= SEEN + 500
    assert len(gateway.hub.channels["dashboard"]._history) == 5
    gateway.kill()


@pytest.mark.parametrize("keep", [True, False])
async def test_what_was_held_back_is_sent_after_a_restart_and_once(gateway: Gateway, keep: bool) -> None:
    await gateway.publish(*(push(number, "speed", keep=keep, at_most=1.0) for number in range(1, 8)))
    client = await gateway.join()
    gateway.restart()
    again = await gateway.join(after=f"{gateway.run}-1")
    await gateway.publish(*(push(number, "speed", keep=keep, at_most=1.0) for number in range(3, 8)))
    assert (bodies(client), bodies(again)) == ([], [7])
    gateway.restart()
    assert bodies(await gateway.join(after=f"{gateway.run}-1")) == [7]
    await gateway.publish(push(8))
    assert bodies(await gateway.join(after=f"{gateway.run}-2")) == [8]


async def test_a_snapshot_and_what_is_on_its_way_tell_the_last_value_last(gateway: Gateway) -> None:
    gateway.hub.publish([push(1, "stats", keep=True), push(2, "stats", keep=True)])
    client = await gateway.join()
    assert bodies(client) == [2]
    await gateway.publish(push(3, "stats", keep=True))
    assert bodies(client) == [2, 3]


async def test_a_value_that_the_worker_keeps_comes_again_without_a_number(gateway: Gateway) -> None:
    await gateway.publish(push(1, "stats", keep=True))
    await gateway.publish(*(push(number) for number in range(2, SEEN + 3)))
    gateway.restart()
    await gateway.publish(push(1, "stats", keep=True))
    assert gateway.hub.report()["dashboard"]["repeated"] == 1


@contextmanager
def no_file_longer_than(size: int) -> Iterator[None]:
    """Let the kernel refuse what would make a file longer: to who writes, the disk is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_full_disk_holds_nobody_up_and_deceives_nobody(gateway: Gateway) -> None:
    client = await gateway.join()
    await gateway.publish(push(1))
    first, last = gateway.run, client.got[-1].id
    with capture_logs() as logs:
        with no_file_longer_than(2_000):
            await gateway.publish(push(2), push(3))
            await gateway.publish(push(4, "stats", keep=True))
            gateway.clock.now += 60
            await gateway.publish(push(5))
        assert [entry["log_level"] for entry in logs] == ["warning"]
        assert bodies(client) == [1, 2, 3, 4, 5]
        second = gateway.run
        assert second != first
        assert [message.id for message in client.got[1:]] == [f"{second}-{n}" for n in range(1, 5)]
        assert bodies(await gateway.join(after=f"{second}-1")) == [3, 4, 5]
        assert bodies(await gateway.join(after=last)) == [4], "a snapshot, for 2 and 3 are not in this run"
        await gateway.publish(push(6))
        assert not gateway.path.exists(), "it is not tried again with every message"
        gateway.clock.now += 60
        await gateway.publish(push(7))
        assert [entry["event"] for entry in logs[1:]] == ["channel log is written again"]
    gateway.restart()
    assert gateway.run == second
    assert bodies(await gateway.join(after=f"{second}-2")) == [4, 5, 6, 7]
    await gateway.publish(push(2), push(8))
    assert gateway.hub.report()["dashboard"] | {"clients": 0} == {
        "clients": 0, "number": 7, "sent": 1, "repeated": 1, "conflated": 0, "cut": 0, "refused": 0,
    }  # fmt: skip


async def test_a_gateway_killed_while_the_disk_is_full_begins_another_run(gateway: Gateway) -> None:
    await gateway.publish(push(1))
    first = gateway.run
    with no_file_longer_than(2_000):
        await gateway.publish(push(2))
        gateway.kill()
    gateway.start()
    await gateway.publish(push(3))
    assert gateway.run != first
    assert [message.event for message in (await gateway.join(after=f"{first}-1")).got] == []
    assert gateway.hub.channels["dashboard"].missed(f"{first}-1", "") is None


@pytest.mark.parametrize("content", [b"", b"not a database at all" * 300, "inbox"])
async def test_a_file_that_is_no_log_is_replaced(tmp_path: Path, content: bytes | str) -> None:
    path = tmp_path / "channels.db"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("create table block (first integer)")
    gateway = Gateway(tmp_path)
    await gateway.publish(push(1))
    run = gateway.run
    gateway.restart()
    assert gateway.run == run
    gateway.kill()


async def test_channels_of_other_versions(gateway: Gateway) -> None:
    await gateway.publish(push(1))
    run = gateway.run
    gateway.hub.replace({"dashboard": gateway.spec, "chat": ChannelSpec.parse("chat", {"path": "/ws/chat"})})
    await gateway.publish(push(2))
    gateway.hub.replace({"chat": ChannelSpec.parse("chat", {"path": "/ws/chat"})})
    gateway.hub.replace({"dashboard": gateway.spec})
    await gateway.publish(push(3))
    gateway.restart()
    assert gateway.run == run
    assert bodies(await gateway.join(after=f"{run}-1")) == [2, 3]
    await gateway.publish(push(4))
    assert rows(gateway.path, "select name from channel") == [("dashboard",)]


async def test_rooms_and_ages_survive(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, path="/ws/chat/{room}", on_connect={})
    await gateway.publish(push(1, room="a"), push(2, room="b"))
    gateway.clock.now += 100
    await gateway.publish(push(3, room="a"))
    gateway.restart()
    channel = gateway.hub.channels["dashboard"]
    assert [message.body for message in channel.missed(f"{gateway.run}-0", "a") or ()] == [b"1", b"3"]
    assert [message.keep for message in channel._history] == [False] * 3
    gateway.kill()
