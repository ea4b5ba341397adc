"""The `mqtt` source: topic filters, and what the inbox may forget; what else it does is in the pack's tests."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from engine.arrival import Arrival
from engine.arrivals import Arrivals
from engine.errors import Unavailable
from engine.inbox import InboxWriter
from engine.intake import FlowIntake, ReplyDesk
from engine.settings import MqttPlace
from engine.topic_filters import Filters, matches
from sources.mqtt import Mqtt
from tests.engine.inbox_case import stored, writing
from tests.engine.mqtt_peer import BOUND, Peer, scripted

CONNACK_NEW, CONNACK_PRESENT = b"\x20\x02\x00\x00", b"\x20\x02\x01\x00"
PUBACK_7 = b"\x40\x02\x00\x07"


@pytest.mark.parametrize(
    ("topic_filter", "topic", "expected"),
    [
        ("sensor/result", "sensor/result", True),
        ("sensor/result", "sensor/result/1", False),
        ("sensor/+", "sensor/result", True),
        ("sensor/+", "sensor/", True),
        ("sensor/+", "sensor/a/b", False),
        ("sensor/+/b", "sensor/a/b", True),
        ("sensor/#", "sensor", True),
        ("sensor/#", "sensor/a/b", True),
        ("#", "sensor/a", True),
        ("#", "$SYS/uptime", False),
        ("+/uptime", "$SYS/uptime", False),
        ("$SYS/#", "$SYS/uptime", True),
        ("$share/group/sensor/+", "sensor/a", True),
        ("$share/group/sensor/+", "group/sensor/a", False),
        ("$share/group/sensor", "sensor", True),
    ],
)
def test_a_topic_falls_under_a_filter(topic_filter: str, topic: str, expected: bool) -> None:
    assert matches(topic_filter, topic) is expected
    assert Filters(["other", "an+/#", topic_filter]).take(topic) is expected


async def subscribed(peer: Peer, connack: bytes) -> None:
    """Let the source in, up to its first PINGREQ."""
    await peer.greet(connack)
    subscribe = await peer.receive()
    assert subscribe[0] == 0x82
    peer.send(b"\x90\x03" + subscribe[2:4] + b"\x01")
    await peer.pinged()


async def test_a_packet_id_that_is_used_again_before_the_confirmation_is_still_known(tmp_path: Path) -> None:
    async def first(peer: Peer) -> None:
        await subscribed(peer, CONNACK_NEW)
        peer.send(b"\x32\x06\x00\x01t\x00\x07a")
        assert await peer.receive() == PUBACK_7
        await peer.pinged()
        peer.send(b"\x32\x06\x00\x01t\x00\x07b")
        assert await peer.receive() == PUBACK_7
        peer.send(b"\xd0\x00" * 2)  # the broker has read the first PUBACK; of the second nobody knows
        await peer.pinged()
        peer.cut()

    async def second(peer: Peer) -> None:
        await subscribed(peer, CONNACK_PRESENT)
        peer.send(b"\x3a\x06\x00\x01t\x00\x07b")
        assert await peer.receive() == PUBACK_7

    async with writing(tmp_path / "inbox.db") as writer, scripted(first, second) as (address, done):
        place = MqttPlace(address, 4, "millstream")
        source = Mqtt(topics=["t"], payload="any")
        running = asyncio.create_task(
            source.run_all([(source, FlowIntake(writer, ReplyDesk(), "flow", "gate", place))])
        )
        await asyncio.wait_for(done, BOUND)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert [record[-1] for record in stored(tmp_path / "inbox.db")] == [b"a", b"b"]


class Refusing(FlowIntake):
    """An intake whose inbox has no room for `a` twice; what comes meanwhile is refused too, as the inbox does."""

    def __init__(self, writer: InboxWriter, place: MqttPlace) -> None:
        super().__init__(writer, ReplyDesk(), "flow", "gate", place)
        self.asked, self._told, self._left = asyncio.Event(), asyncio.Event(), 2

    def submit(self, arrivals: Arrivals | Sequence[Arrival], done: Callable[[BaseException | None], None]) -> None:
        """Refuse `a` twice: the first time only when `b` has come."""
        found = Arrivals.of(arrivals)
        if found.payloads[0] == b"a" and self._left:
            self._left -= 1
            self.asked.set()
            task = asyncio.ensure_future(self._told.wait())
            task.add_done_callback(lambda _: done(Unavailable("no room")))
        elif not self._told.is_set():
            self._told.set()
            raise Unavailable("no room")
        else:
            super().submit(found, done)


async def test_what_the_inbox_refused_is_stored_in_the_order_in_which_it_came(tmp_path: Path) -> None:
    async with writing(tmp_path / "inbox.db") as writer:
        intake: Refusing

        async def broker(peer: Peer) -> None:
            await subscribed(peer, CONNACK_NEW)
            peer.send(b"\x32\x06\x00\x01t\x00\x07a")
            await asyncio.wait_for(intake.asked.wait(), BOUND)
            peer.send(b"\x32\x06\x00\x01t\x00\x08b")
            assert await peer.acknowledged(2) == [b"\x00\x07", b"\x00\x08"]
            peer.send(b"\x32\x06\x00\x01t\x00\x09c")
            assert await peer.acknowledged(1) == [b"\x00\x09"]

        async with scripted(broker) as (address, done):
            intake = Refusing(writer, MqttPlace(address, 4, "millstream"))
            source = Mqtt(topics=["t"], payload="any")
            running = asyncio.create_task(source.run_all([(source, intake)]))
            await asyncio.wait_for(done, BOUND)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
    assert [record[-1] for record in stored(tmp_path / "inbox.db")] == [b"a", b"b", b"c"]
