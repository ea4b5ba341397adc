"""The MQTT session against a peer that breaks off, repeats itself or talks nonsense at a chosen moment."""

import asyncio
import contextlib
import ssl
import subprocess
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from engine.mqtt import Message, MqttAddress, MqttSession
from engine.mqtt_messages import Messages
from tests.engine.mqtt_peer import BOUND, Peer, scripted

CONNACK_NEW, CONNACK_PRESENT = b"\x20\x02\x00\x00", b"\x20\x02\x01\x00"


@contextlib.asynccontextmanager
async def running(session: MqttSession) -> AsyncIterator[MqttSession]:
    task = asyncio.create_task(session.run())
    try:
        yield session
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("connack", [CONNACK_PRESENT, CONNACK_NEW])
async def test_an_unacknowledged_publish_is_sent_again_with_dup(connack: bytes) -> None:
    async def first(peer: Peer) -> None:
        await peer.greet(CONNACK_NEW)
        assert await peer.receive() == b"\x32\x06\x00\x01t\x00\x01a"
        assert await peer.receive() == b"\x32\x06\x00\x01t\x00\x02b"
        peer.send(b"\x40\x02\x00\x01")
        peer.send(b"\xd0\x00" * 2)
        peer.cut()

    async def second(peer: Peer) -> None:
        await peer.greet(connack)
        again = await peer.receive()
        if again == b"\x3a\x06\x00\x01t\x00\x01a":  # the PUBACK may have been lost with the connection
            peer.send(b"\x40\x02\x00\x01")
            again = await peer.receive()
        assert again == b"\x3a\x06\x00\x01t\x00\x02b"
        peer.send(b"\x40\x02\x00\x02")

    async with scripted(first, second) as (address, done), running(MqttSession(address, "me", version=4)) as session:
        await asyncio.wait_for(session.publish([("t", b"a", 1, False), ("t", b"b", 1, False)]), BOUND)
        await asyncio.wait_for(done, BOUND)


@pytest.mark.parametrize(("connack", "again"), [(CONNACK_PRESENT, b"\x62\x02\x00\x01"), (CONNACK_NEW, b"\x3c")])
async def test_a_qos_2_publish_goes_on_where_it_stood(connack: bytes, again: bytes) -> None:
    async def first(peer: Peer) -> None:
        await peer.greet(CONNACK_NEW)
        assert await peer.receive() == b"\x34\x06\x00\x01t\x00\x01a"
        peer.send(b"\x50\x02\x00\x01")
        assert await peer.receive() == b"\x62\x02\x00\x01"
        peer.cut()

    async def second(peer: Peer) -> None:
        await peer.greet(connack)
        assert (await peer.receive()).startswith(again)
        peer.send(b"\x70\x02\x00\x01")

    async with scripted(first, second) as (address, done), running(MqttSession(address, "me", version=4)) as session:
        await asyncio.wait_for(session.publish([("t", b"a", 2, False)]), BOUND)
        await asyncio.wait_for(done, BOUND)


async def test_a_repeated_qos_2_message_is_delivered_once() -> None:
    message, dup = b"\x34\x06\x00\x01t\x00\x05a", b"\x3c\x06\x00\x01t\x00\x05a"
    pubrec, pubrel, pubcomp = b"\x50\x02\x00\x05", b"\x62\x02\x00\x05", b"\x70\x02\x00\x05"

    async def first(peer: Peer) -> None:
        await peer.greet(CONNACK_NEW)
        peer.send(message)
        assert await peer.receive() == pubrec
        peer.send(dup)
        assert await peer.receive() == pubrec
        peer.cut()

    async def second(peer: Peer) -> None:
        await peer.greet(CONNACK_PRESENT)
        peer.send(dup)
        assert await peer.receive() == pubrec
        peer.send(pubrel)
        assert await peer.receive() == pubcomp
        peer.send(pubrel + message)
        assert await peer.receive() == pubcomp
        assert await peer.receive() == pubrec

    got: list[Message] = []

    def take(batch: Sequence[Message]) -> None:
        got.extend(batch)
        session.acknowledge(batch)
        session.acknowledge(batch)

    async with scripted(first, second) as (address, done):
        session = MqttSession(address, "me", version=4, on_messages=take)
        async with running(session):
            await asyncio.wait_for(done, BOUND)
    assert [message.dup for message in got] == [False, False]


async def test_a_packet_id_that_comes_again_before_it_was_acknowledged_is_acknowledged_twice() -> None:
    """Mosquitto 2.0 sends all that is queued, whatever receive maximum it was given."""
    ids = [(number % 65535 + 1).to_bytes(2, "big") for number in range(80_000)]
    got: list[Messages] = []

    async def flood(peer: Peer) -> None:
        await peer.greet(b"\x20\x03\x00\x00\x00")
        peer.send(b"".join(b"\x32\x06\x00\x01t" + packet + b"\x00" for packet in ids))
        assert await peer.acknowledged(len(ids)) == ids

    async with scripted(flood) as (address, done):
        held = [True]

        def take(batch: Messages) -> None:
            (got.append if held[0] else session.acknowledge)(batch)

        session = MqttSession(address, "me", version=5, on_messages=take)
        async with running(session), asyncio.timeout(4 * BOUND):
            while session._link is None or session._link.reading:
                if sum(map(len, got)) == len(ids):
                    break
                await asyncio.sleep(0.01)
            held[0] = False
            for batch in got:
                session.acknowledge(batch)
            await done


async def test_an_acknowledgement_of_an_older_connection_is_not_sent() -> None:
    got: list[Message] = []

    async def first(peer: Peer) -> None:
        await peer.greet(CONNACK_NEW)
        peer.send(b"\x32\x05\x00\x01t\x00\x07")
        await arrived.wait()
        peer.cut()

    async def second(peer: Peer) -> None:
        await peer.greet(CONNACK_PRESENT)
        arrived.clear()
        peer.send(b"\x3a\x05\x00\x01t\x00\x07\x32\x05\x00\x01t\x00\x08")
        await arrived.wait()
        session.acknowledge(got[:1])
        session.acknowledge(got[2:])
        session.acknowledge(got)
        assert await peer.receive() == b"\x40\x02\x00\x08"
        assert await peer.receive() == b"\x40\x02\x00\x07"

    arrived = asyncio.Event()

    def take(batch: Sequence[Message]) -> None:
        got.extend(batch)
        arrived.set()

    async with scripted(first, second) as (address, done):
        session = MqttSession(address, "me", version=4, on_messages=take)
        async with running(session):
            await asyncio.wait_for(done, BOUND)
    assert [(message.packet_id, message.dup) for message in got] == [(7, False), (7, True), (8, False)]


async def test_an_acknowledgement_is_confirmed_by_the_answer_to_a_later_ping() -> None:
    confirmed: list[str] = []
    life = iter(["first", "second"])

    async def first(peer: Peer) -> None:
        await peer.begin(CONNACK_NEW, b"\x32\x05\x00\x01t\x00\x07")
        assert await peer.receive() == b"\x40\x02\x00\x07"
        peer.send(b"\xd0\x00")  # to the PINGREQ that came before the PUBACK: it tells nothing
        await peer.pinged()
        assert confirmed == []
        peer.cut()

    async def second(peer: Peer) -> None:
        await peer.begin(CONNACK_PRESENT, b"\x3a\x05\x00\x01t\x00\x07")
        assert await peer.receive() == b"\x40\x02\x00\x07"
        await peer.pinged()
        peer.send(b"\xd0\x00" * 2)
        await asyncio.wait_for(told.wait(), BOUND)

    told = asyncio.Event()

    def take(batch: Sequence[Message]) -> None:
        which = next(life)

        def note() -> None:
            confirmed.append(which)
            told.set()

        session.acknowledge(batch, note)

    async with scripted(first, second) as (address, done):
        session = MqttSession(address, "me", version=4, on_messages=take)
        async with running(session):
            await asyncio.wait_for(done, BOUND)
    assert confirmed == ["second"]


async def test_what_was_not_acknowledged_over_this_connection_is_never_confirmed() -> None:
    got: list[Message] = []
    confirmed: list[str] = []

    async def first(peer: Peer) -> None:
        await peer.begin(CONNACK_NEW, b"\x32\x05\x00\x01t\x00\x07")
        await arrived.wait()
        peer.cut()

    async def second(peer: Peer) -> None:
        arrived.clear()
        await peer.begin(CONNACK_PRESENT, b"\x3a\x05\x00\x01t\x00\x07")
        await arrived.wait()
        session.acknowledge(got[:1], lambda: confirmed.append("of the first"))
        session.acknowledge(got[1:], lambda: confirmed.append("of the second"))
        assert await peer.receive() == b"\x40\x02\x00\x07"
        await peer.pinged()
        peer.send(b"\xd0\x00" * 2)
        peer.send(b"\x32\x05\x00\x01t\x00\x08")
        arrived.clear()
        await arrived.wait()

    arrived = asyncio.Event()

    def take(batch: Sequence[Message]) -> None:
        got.extend(batch)
        arrived.set()

    async with scripted(first, second) as (address, done):
        session = MqttSession(address, "me", version=4, on_messages=take)
        async with running(session):
            await asyncio.wait_for(done, BOUND)
    assert confirmed == ["of the second"]


@pytest.mark.parametrize(
    ("nonsense", "problem"),
    [
        (b"\x36\x05\x00\x01t\x00\x01", "a PUBLISH with QoS 3"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n" * 9, "a packet of type 4 with the flags 8"),
    ],
)
async def test_nonsense_costs_one_connection(nonsense: bytes, problem: str, caplog: pytest.LogCaptureFixture) -> None:
    async def first(peer: Peer) -> None:
        await peer.greet(CONNACK_NEW)
        peer.send(nonsense)
        with pytest.raises((EOFError, ConnectionError)):
            await peer.receive()

    async def second(peer: Peer) -> None:
        await peer.greet(CONNACK_NEW)

    states: list[tuple[str, str]] = []
    async with scripted(first, second) as (address, done):
        session = MqttSession(address, "me", version=4, on_state=lambda *state: states.append(state))
        async with running(session):
            await asyncio.wait_for(done, BOUND)
            await session.connected(BOUND)
    assert ("connecting", f"malformed packet: {problem}") in states
    assert f"the MQTT broker sent a malformed packet: {problem}" in caplog.messages


async def test_a_broker_that_hangs_up_on_mqtt_5_is_asked_in_311() -> None:
    async def hang_up(peer: Peer) -> None:
        assert (await peer.receive())[8] == 5
        peer.cut()

    async def speak_311(peer: Peer) -> None:
        assert (await peer.receive())[8] == 4
        peer.send(CONNACK_NEW)
        await asyncio.sleep(0)
        await session.connected(BOUND)
        peer.cut()

    async with scripted(hang_up, speak_311, speak_311) as (address, done):
        session = MqttSession(address, "me")
        async with running(session):
            await asyncio.wait_for(done, BOUND)


async def test_a_broker_that_does_not_answer_is_left() -> None:
    async def silent(peer: Peer) -> None:
        await peer.greet(CONNACK_NEW)
        with pytest.raises((EOFError, ConnectionError)):
            await peer.receive()

    async def lively(peer: Peer) -> None:
        await peer.greet(CONNACK_NEW)

    states: list[tuple[str, str]] = []
    async with scripted(silent, lively) as (address, done):
        session = MqttSession(address, "me", version=4, keepalive=1, on_state=lambda *state: states.append(state))
        async with running(session):
            await asyncio.wait_for(done, BOUND)
    assert ("connecting", "no answer to a PINGREQ within 0.75 s") in states


async def test_a_callback_that_fails_has_the_messages_sent_again(caplog: pytest.LogCaptureFixture) -> None:
    async def first(peer: Peer) -> None:
        await peer.greet(CONNACK_NEW)
        peer.send(b"\x32\x05\x00\x01t\x00\x07")
        with pytest.raises((EOFError, ConnectionError)):
            await peer.receive()

    async def second(peer: Peer) -> None:
        await peer.greet(CONNACK_PRESENT)

    def fail(batch: Sequence[Message]) -> None:
        raise RuntimeError("disk full")

    async with scripted(first, second) as (address, done):
        session = MqttSession(address, "me", version=4, on_messages=fail)
        async with running(session):
            await asyncio.wait_for(done, BOUND)
    assert "a batch of 1 MQTT messages could not be taken; the broker will send it again" in caplog.messages


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Make a certificate of 127.0.0.1, with its key, that nobody trusts."""
    path = tmp_path / "certificate.pem"
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(path), "-out", f"{path}.crt"]
    subprocess.run([*command, *name], check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


async def test_tls_trusts_only_known_certificates(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def greet(peer: Peer) -> None:
        await peer.greet(CONNACK_NEW)

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    async with scripted(greet, tls=context) as (address, _):
        told: asyncio.Future[tuple[str, str]] = asyncio.get_running_loop().create_future()
        async with running(MqttSession(address, "me", version=4, on_state=lambda *state: _tell(told, state))):
            state, error = await asyncio.wait_for(told, BOUND)
        assert (state, error.split(":")[0]) == ("refused", "the broker's certificate is not trusted")
        monkeypatch.setenv("SSL_CERT_FILE", f"{certificate}.crt")
        async with running(MqttSession(address, "me", version=4)) as session:
            await session.connected(BOUND)


def _tell(future: "asyncio.Future[tuple[str, str]]", state: tuple[str, str]) -> None:
    if not future.done():
        future.set_result(state)


@pytest.mark.parametrize(
    ("text", "parsed", "shown"),
    [
        ("mqtt://h", ("h", 1883, None, None, False), "mqtt://h:1883"),
        ("mqtts://u:p%40%2F@h/", ("h", 8883, "u", "p@/", True), "mqtts://u:***@h:8883"),
        ("mqtt://u@[::1]:5", ("::1", 5, "u", None, False), "mqtt://u@[::1]:5"),
    ],
)
def test_an_address_is_read_and_shown_without_its_password(text: str, parsed: tuple[object, ...], shown: str) -> None:
    address = MqttAddress.parse(text)
    password = address.password.get_secret_value() if address.password else None
    assert (address.host, address.port, address.username, password, address.tls) == parsed
    assert str(address) == shown
    assert password is None or password not in repr(address)


@pytest.mark.parametrize(
    "text",
    ["", "h:1883", "http://u:geheim@h", "mqtt://", "mqtt://u:geheim@", "mqtt://u:geheim@h:0", "mqtt://u:geheim@h:x",
     "mqtt://u:ge/heim@h:1883", "mqtt://u:1#geheim@h", "mqtt://u:geheim@h:1883/path", "mqtt://u:geheim@[::1"],
)  # fmt: skip
def test_a_wrong_address_is_refused_without_showing_the_password(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected mqtt\[s\]://user:password@host:port") as caught:
        MqttAddress.parse(text)
    assert "heim" not in str(caught.value)
