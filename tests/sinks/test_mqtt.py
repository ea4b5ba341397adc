"""The mqtt sink at a real Mosquitto: what arrives there, and what becomes of what it refuses."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.mqtt import Message, MqttAddress, MqttSession
from engine.settings import MqttPlace
from sinks.mqtt import Mqtt
from tests.process import LOCALHOST, wait_until
from tests.services import Mosquitto
from tests.sinks.sink_case import Surroundings, event, readings


class World(Surroundings):
    """Surroundings with a broker."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.mqtt = MqttPlace(MqttAddress(LOCALHOST, port), "auto", f"sink-{port}")

    @asynccontextmanager
    async def heard(self, *topics: str) -> AsyncIterator[list[Message]]:
        """Subscribe at QoS 2 and collect what comes."""
        found: list[Message] = []
        subscribed = asyncio.Event()

        def take(batch: Sequence[Message]) -> None:
            found.extend(batch)
            session.acknowledge(batch)

        def tell(state: str, _detail: str) -> None:
            if state == "connected":
                subscribed.set()

        wanted = [(topic, 2) for topic in topics]
        session = MqttSession(
            self.mqtt.address, f"ear-{id(found)}", on_messages=take, topics=wanted, persistent=False, on_state=tell
        )
        running = asyncio.create_task(session.run())
        async with asyncio.timeout(10):
            await subscribed.wait()
        try:
            yield found
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def write(self, events: list[Any], **options: Any) -> None:
        async with self.opened(Mqtt.model_validate(options)) as writer, asyncio.timeout(20):
            await writer.write(events)


@pytest.fixture
def world(mosquitto: Mosquitto) -> World:
    return World(mosquitto.port)


async def until(found: list[Message], number: int) -> None:
    await asyncio.to_thread(wait_until, lambda: len(found) >= number, f"{number} messages", 10)


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_events_arrive_in_order_at_each_qos(world: World, qos: int) -> None:
    async with world.heard(f"k1/qos{qos}/#") as found:
        await world.write(readings(500), topic=f"'k1/qos{qos}/' + device", qos=qos)
        await until(found, 500)
    assert [json.loads(message.payload)["n"] for message in found] == list(range(500))
    assert {message.qos for message in found} == {qos}
    assert found[8].topic == f"k1/qos{qos}/LED1"


async def test_a_payload_is_text_bytes_or_json(world: World) -> None:
    events = [
        event(0, {"p": "ü on"}),
        event(1, {"p": b"\0\xff"}),
        event(2, {"p": [1]}),
        event(3, {}),
        event(4, {"p": 1.5}),
    ]
    async with world.heard("k1/raw") as found:
        await world.write(events, topic="'k1/raw'", payload="p")
        await world.write([event(5, {"p": 7})], topic="'k1/raw'", text="{{ p }} at {{ meta.key }}!")
        await world.write([event(6, {"p": 7, "q": 8})], topic="'k1/raw'", fields=["q"])
        await until(found, 7)
    assert [message.payload for message in found] == [
        "ü on".encode(), b"\0\xff", b"[1]", b"", b"1.5", b"7 at !", b'{"q":8}',
    ]  # fmt: skip


async def test_an_expression_says_what_is_kept(world: World) -> None:
    events = [event(n, {"n": n, "hot": n % 2 == 1}) for n in range(4)]
    await world.write(events, topic="'k1/kept/' + text(n)", retain="hot")
    async with world.heard("k1/kept/#") as found:
        await until(found, 2)
        assert sorted(message.topic for message in found) == ["k1/kept/1", "k1/kept/3"]
        assert all(message.retain for message in found)
    await world.write(events, topic="'k1/kept/' + text(n)", payload="none", retain=True)


async def test_what_mqtt_cannot_carry_costs_itself(world: World) -> None:
    topics = ["k1/bad/0", "", "a/+/b", "x" * 70_000, None, "k1/bad/1", "\ud800"]
    async with world.heard("k1/bad/#") as found:
        await world.write([event(n, {"n": n, "t": topic}) for n, topic in enumerate(topics)], topic="t")
        await until(found, 2)
    assert [message.topic for message in found] == ["k1/bad/0", "k1/bad/1"]
    assert [letter[1].data["n"] for letter in world.letters] == [1, 2, 3, 4, 6]
    assert all(reason.startswith("topic: a text of 1 to 65535 bytes") for reason in world.reasons)


class Strict(Mosquitto):
    """A broker that takes packets of at most 2,000 bytes, and nothing but on k1."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        rules, config = folder / "acl", folder / "mosquitto.conf"
        rules.write_text("topic readwrite k1/#\n")
        rules.chmod(0o600)
        config.write_text(f"{config.read_text()}max_packet_size 2000\nacl_file {rules}\n")


async def test_what_the_broker_refuses_costs_itself(tmp_path: Path) -> None:
    broker = Strict(tmp_path)
    broker.start()
    try:
        world = World(broker.port)
        events = [event(n, {"n": n, "pad": "x" * 3000 if n == 3 else "", "t": f"k1/{n % 2}"}) for n in range(6)]
        events.append(event(6, {"n": 6, "t": "secret"}))
        async with world.heard("k1/#") as found:
            await world.write(events, topic="t")
            await until(found, 5)
        assert {json.loads(message.payload)["n"] for message in found} == {0, 1, 2, 4, 5}
        reasons = {letter[1].data["n"]: letter[2] for letter in world.letters}
        assert reasons.keys() == {3, 6}
        assert "larger than the 2000 the broker allows" in reasons[3]
        assert reasons[6].startswith("a message that the broker takes; ")
    finally:
        broker.stop()


async def test_another_broker_is_reached_by_its_address(world: World, tmp_path: Path) -> None:
    other = Mosquitto(tmp_path)
    other.start()
    try:
        async with World(other.port).heard("k1/other") as found:
            await world.write(readings(3), topic="'k1/other'", broker=f"mqtt://{LOCALHOST}:{other.port}")
            await until(found, 3)
    finally:
        other.stop()
    assert world.letters == []
