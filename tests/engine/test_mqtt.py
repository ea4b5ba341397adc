"""The MQTT session on a real Mosquitto, on the embedded broker, and on a peer that breaks off where we say."""

import asyncio
import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from engine.mqtt import Message, MqttAddress, MqttSession, PublishRefused
from engine.mqtt_codec import Connect
from engine.mqtt_codec_5 import Mqtt5

ROOT = Path(__file__).parents[2]
BOUND = 15
MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin") or "mosquitto"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Broker:
    """A broker process on a free port; `kill` and `start` bring it back there, without what it kept in memory."""

    def __init__(self, port: int, *command: str) -> None:
        self.port, self.command = port, command
        self.address = MqttAddress("127.0.0.1", port)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, cwd=ROOT, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        end = time.monotonic() + BOUND
        while time.monotonic() < end and self.process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.02)
        raise AssertionError(f"{self.command} does not listen")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()


def mosquitto_with(folder: Path, *lines: str) -> Broker:
    port = free_port()
    config = folder / "mosquitto.conf"
    limits = ("max_inflight_messages 0", "max_queued_messages 0")
    config.write_text("\n".join([f"listener {port} 127.0.0.1", *limits, *lines, ""]))
    return Broker(port, MOSQUITTO, "-c", str(config))


def embedded_broker() -> Broker:
    port = free_port()
    return Broker(port, sys.executable, "-m", "engine.broker", "127.0.0.1", str(port))


@contextlib.contextmanager
def serving(broker: Broker) -> Iterator[Broker]:
    try:
        broker.start()
        yield broker
    finally:
        broker.kill()


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Broker]:
    with serving(mosquitto_with(tmp_path, "allow_anonymous true")) as broker:
        yield broker


@pytest.fixture(params=["mosquitto", "embedded"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Broker]:
    made = mosquitto_with(tmp_path, "allow_anonymous true") if request.param == "mosquitto" else embedded_broker()
    with serving(made) as running:
        yield running


class Client:
    """A session whose messages are kept, and acknowledged unless `hold`."""

    def __init__(self, broker: Broker, name: str, *, hold: bool = False, **options: Any) -> None:
        self.messages: list[Message] = []
        self.states: list[tuple[str, str]] = []
        self.hold = hold
        self._news = asyncio.Event()
        self.session = MqttSession(
            broker.address, name, on_messages=self._take, on_state=lambda *state: self._note(state), **options
        )

    def _take(self, batch: Sequence[Message]) -> None:
        self.messages += batch
        if not self.hold:
            self.session.acknowledge(batch)
        self._news.set()

    def _note(self, state: tuple[str, str]) -> None:
        self.states.append(state)
        self._news.set()

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(BOUND):
            while not true():
                self._news.clear()
                await self._news.wait()

    async def until_arrived(self, count: int) -> list[Message]:
        await self.until(lambda: len(self.messages) >= count)
        return self.messages

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Client"]:
        task = asyncio.create_task(self.session.run())
        try:
            await self.session.connected(BOUND)
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_messages_arrive_once_and_in_order_at_each_qos(broker: Broker, qos: int) -> None:
    receiver = Client(broker, "in", topics=[("t/+", qos)])
    sender = Client(broker, "out")
    async with receiver.running(), sender.running():
        await sender.session.publish([("t/é", b"%d" % number, qos, False) for number in range(300)])
        await receiver.until_arrived(300)
        await sender.session.publish([("t/end", b"", qos, False)])
        got = await receiver.until_arrived(301)
    assert [message.payload for message in got] == [b"%d" % number for number in range(300)] + [b""]
    assert {(message.qos, message.dup, message.packet_id > 0) for message in got} == {(qos, False, qos > 0)}
    assert receiver.states[-1][0] == receiver.session.state == "stopped"


async def test_a_retained_message_says_so(broker: Broker) -> None:
    async with Client(broker, "out").running() as sender:
        await sender.session.publish([("kept/a", b"1", 1, True)])
        async with Client(broker, "in", topics=[("kept/#", 1)]).running() as receiver:
            got = await receiver.until_arrived(1)
            assert (got[0].payload, got[0].retain) == (b"1", True)


async def test_a_retained_message_is_not_repeated_to_a_lasting_session(mosquitto: Broker) -> None:
    topics = [("kept", 1), ("fence", 0)]
    async with Client(mosquitto, "out").running() as sender:
        await sender.session.publish([("kept", b"1", 1, True)])
        async with Client(mosquitto, "in", topics=topics).running() as receiver:
            await receiver.until_arrived(1)
        async with Client(mosquitto, "in", topics=topics).running() as receiver:
            await sender.session.publish([("fence", b"", 0, False)])
            assert [message.topic for message in await receiver.until_arrived(1)] == ["fence"]


async def test_mosquitto_stops_at_the_receive_maximum(mosquitto: Broker) -> None:
    receiver = Client(mosquitto, "in", hold=True, topics=[("t", 1), ("fence", 0)], receive_maximum=20)
    async with receiver.running(), Client(mosquitto, "out").running() as sender:
        await sender.session.publish([("t", b"%d" % number, 1, False) for number in range(100)])
        await sender.session.publish([("fence", b"", 0, False)])
        got = await receiver.until_arrived(21)
        assert [message.topic for message in got] == ["t"] * 20 + ["fence"]
        receiver.hold = False
        receiver.session.acknowledge(got)
        assert len(await receiver.until_arrived(101)) == 101


async def test_in_311_we_stop_reading_at_the_receive_maximum() -> None:
    with serving(embedded_broker()) as broker:
        receiver = Client(broker, "in", hold=True, topics=[("t", 1)], receive_maximum=100)
        async with receiver.running(), Client(broker, "out").running() as sender:
            await sender.session.publish([("t", b"%02000d" % number, 1, False) for number in range(3000)])
            await receiver.until_arrived(100)
            assert len(receiver.messages) < 500
            receiver.hold = False
            receiver.session.acknowledge(receiver.messages)
            got = await receiver.until_arrived(3000)
        assert [int(message.payload) for message in got] == list(range(3000))


async def test_the_embedded_broker_has_1000_messages_in_flight_at_most() -> None:
    with serving(embedded_broker()) as broker:
        receiver = Client(broker, "in", hold=True, topics=[("t", 1), ("fence", 0)], receive_maximum=65535)
        async with receiver.running(), Client(broker, "out").running() as sender:
            await sender.session.publish([("t", b"", 1, False)] * 1500)
            await sender.session.publish([("fence", b"", 0, False)])
            await receiver.until(lambda: receiver.messages[-1:] != [] and receiver.messages[-1].topic == "fence")
            assert len(receiver.messages) == 1001
            receiver.hold = False
            receiver.session.acknowledge(receiver.messages)
            assert len(await receiver.until_arrived(1501)) == 1501


def test_the_embedded_broker_tells_a_client_of_mqtt_5_that_it_speaks_311() -> None:
    with serving(embedded_broker()) as broker, socket.create_connection(("127.0.0.1", broker.port), BOUND) as client:
        client.sendall(Mqtt5().connect(Connect("me", None, None, 30, 0, 10)))
        assert client.recv(100) == b"\x20\x02\x00\x01"


async def test_a_session_that_is_paused_reads_nothing(mosquitto: Broker) -> None:
    receiver = Client(mosquitto, "in", topics=[("t", 0)])
    async with receiver.running(), Client(mosquitto, "out").running() as sender:
        receiver.session.pause()
        witness = Client(mosquitto, "witness", topics=[("t", 0)])
        async with witness.running():
            await sender.session.publish([("t", b"", 0, False)])
            await witness.until_arrived(1)
        assert not receiver.messages
        receiver.session.resume()
        assert len(await receiver.until_arrived(1)) == 1


HOLDER = """
import asyncio, sys
from engine.mqtt import MqttAddress, MqttSession
def show(batch):
    for message in batch:
        print(message.packet_id, message.payload.decode(), flush=True)
def tell(state, error):
    print(state, flush=True)
address = MqttAddress("127.0.0.1", int(sys.argv[1]))
asyncio.run(MqttSession(address, "in", on_messages=show, on_state=tell, topics=[("t", 2)]).run())
"""


@pytest.mark.parametrize("qos", [1, 2])
async def test_what_a_killed_client_did_not_acknowledge_comes_again(broker: Broker, qos: int) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDER, str(broker.port), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert child.stdout is not None
    async with Client(broker, "out").running() as sender:
        assert await asyncio.wait_for(child.stdout.readline(), BOUND) == b"connected\n"
        await sender.session.publish([("t", b"seen", qos, False)])
        packet_id, payload = (await asyncio.wait_for(child.stdout.readline(), BOUND)).split()
        child.kill()
        await child.communicate()
        await sender.session.publish([("t", b"away", qos, False)])
    async with Client(broker, "in", topics=[("t", 2)]).running() as receiver:
        got = await receiver.until_arrived(2)
        assert payload == b"seen"
        assert [(message.payload, message.dup) for message in got] == [(b"seen", True), (b"away", False)]
        assert got[0].packet_id == int(packet_id)


async def test_a_session_survives_the_brokers_restart(broker: Broker) -> None:
    receiver, sender = Client(broker, "in", topics=[("t", 1)]), Client(broker, "out")
    async with receiver.running(), sender.running():
        broker.kill()
        await receiver.until(lambda: receiver.session.state == "connecting")
        await sender.until(lambda: sender.session.state == "connecting")
        publishing = asyncio.create_task(sender.session.publish([("kept", b"during", 1, True)]))
        with pytest.raises(TimeoutError, match=f"not connected to mqtt://127.0.0.1:{broker.port} within 0.1 s: "):
            await sender.session.connected(0.1)
        assert not publishing.done()
        broker.start()
        await asyncio.wait_for(publishing, BOUND)
        await receiver.session.connected(BOUND)
        await sender.session.publish([("t", b"after", 1, False)])
        assert [message.payload for message in await receiver.until_arrived(1)] == [b"after"]


async def test_auto_falls_back_to_311_on_the_embedded_broker(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    with serving(embedded_broker()) as broker:
        async with Client(broker, "a", version="auto").running() as client:
            assert client.states == [("connected", "")]
    assert [record.getMessage() for record in caplog.records] == [f"connected to {broker.address} by MQTT 3.1.1"]


async def test_20000_messages_are_all_acknowledged(broker: Broker) -> None:
    receiver = Client(broker, "in", topics=[("t/#", 1)])
    async with receiver.running(), Client(broker, "out").running() as sender:
        begin = time.perf_counter()
        await sender.session.publish([(f"t/{number % 9}", b"%060d" % number, 1, False) for number in range(20_000)])
        async with asyncio.timeout(60):
            while len(receiver.messages) < 20_000:
                await receiver.until_arrived(min(20_000, len(receiver.messages) + 1))
        rate = 20_000 / (time.perf_counter() - begin)
    print(f"{rate:.0f} messages/s from publish to acknowledgement")  # noqa: T201 - for whoever asks with -rP
    assert [message.payload for message in receiver.messages] == [b"%060d" % number for number in range(20_000)]
    again = Client(broker, "in", topics=[("t/#", 1), ("fence", 0)])
    async with again.running(), Client(broker, "out").running() as sender:
        await sender.session.publish([("fence", b"", 0, False)])
        assert [message.topic for message in await again.until_arrived(1)] == ["fence"]


async def test_a_refusal_is_told_and_not_hurried(tmp_path: Path) -> None:
    with serving(mosquitto_with(tmp_path, "allow_anonymous false")) as broker:
        client = Client(broker, "a")
        task = asyncio.create_task(client.session.run())
        await client.until(lambda: bool(client.states))
        assert client.states == [("refused", "the broker refused the connection: not authorized")]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_stopped_session_fails_what_waits(mosquitto: Broker) -> None:
    async with Client(mosquitto, "a").running() as client:
        mosquitto.kill()
        await client.until(lambda: client.session.state == "connecting")
        publishing = asyncio.create_task(client.session.publish([("t", b"", 1, False)]))
    with pytest.raises(ConnectionError, match="was stopped"):
        await publishing
    with pytest.raises(ConnectionError, match="is stopped"):
        await client.session.publish([("t", b"", 1, False)])


async def test_what_cannot_be_published_is_refused(tmp_path: Path) -> None:
    lines = ("allow_anonymous true", "max_packet_size 200", "retain_available false")
    with serving(mosquitto_with(tmp_path, *lines)) as broker:
        async with Client(broker, "a", version=5).running() as client:
            for topic, qos in (("a/+", 0), ("", 1), ("a", 3), ("a\0", 0)):
                with pytest.raises(ValueError, match="topic"):
                    await client.session.publish([(topic, b"", qos, False)])
            with pytest.raises(PublishRefused, match=r"'big': the packet of \d+ bytes is larger than the 200"):
                await client.session.publish([("small", b"", 1, False), ("big", b"x" * 300, 1, False)])
            with pytest.raises(PublishRefused, match="'kept': the broker keeps no retained messages"):
                await client.session.publish([("kept", b"", 0, True)])
            await client.session.publish([("small", b"", 1, False)])


def test_the_embedded_broker_says_when_its_port_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "engine.broker", "127.0.0.1", str(port)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=BOUND, check=False)
    assert done.returncode == 3
    assert f"port {port} is already in use: set MILLSTREAM_BROKER_PORT or MILLSTREAM_MQTT" in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()
    assert done.stdout == b""


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, None])
async def test_the_embedded_broker_stops_cleanly(end: signal.Signals | None) -> None:
    with serving(embedded_broker()) as broker:
        assert broker.process is not None
        async with Client(broker, "a", topics=[("t", 1)]).running():
            if end is None:
                assert broker.process.stdin is not None
                broker.process.stdin.close()
            else:
                broker.process.send_signal(end)
            assert await asyncio.to_thread(broker.process.wait, BOUND) == 0
