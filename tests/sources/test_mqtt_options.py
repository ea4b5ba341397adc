"""The options of the `mqtt` source with a real Mosquitto: TLS, groups, levels as fields, QoS 2, another broker."""

import asyncio
import getpass
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from engine.harness import Harness
from engine.inbox import InboxWriter
from engine.intake import FlowIntake, ReplyDesk
from engine.load import load_text
from engine.mqtt import MqttAddress, MqttSession
from engine.mqtt_broker import MqttBroker
from engine.settings import MqttPlace
from engine.topic_filters import covers, matches, subscriptions
from engine.topic_levels import TopicLevels, filter_of
from sources import mqtt
from sources.mqtt import Mqtt
from tests.engine.inbox_case import stored, writing
from tests.engine.mqtt_peer import BOUND
from tests.process import LOCALHOST, Server, accepts, binary, free_port
from tests.services import Mosquitto


def intake(writer: InboxWriter, url: str, name: str, source: str = "gate", version: Any = "auto") -> FlowIntake:
    place = MqttPlace(MqttAddress.parse(url), version, f"millstream-{name}")
    return FlowIntake(writer, ReplyDesk(), "flow", source, place, States())


class States:
    """Hears how sources are; FlowIntake calls it."""

    def __init__(self) -> None:
        self.seen: dict[str, tuple[str, str]] = {}

    def __call__(self, flow: str, source: str, state: str, detail: str) -> None:
        self.seen[source] = (state, detail)


def seen_by(intake: FlowIntake) -> dict[str, tuple[str, str]]:
    """Return how the sources of an intake of `intake()` are."""
    states = intake._on_state
    assert isinstance(states, States)
    return states.seen


async def until(condition: Any, what: str) -> None:
    end = asyncio.get_running_loop().time() + BOUND
    while not condition():
        assert asyncio.get_running_loop().time() < end, f"in vain: {what}"
        await asyncio.sleep(0.01)


@asynccontextmanager
async def receiving(*members: tuple[Mqtt, FlowIntake]) -> AsyncIterator[None]:
    """Run sources until the block ends; it begins when all are connected."""
    task = asyncio.create_task(Mqtt.run_all(members))
    try:
        states = [(seen_by(intake), intake.source) for _, intake in members]
        await until(lambda: all(seen.get(name) == ("connected", "") for seen, name in states), f"connected; {states}")
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def publish(url: str | MqttAddress, *messages: tuple[str, bytes, int, bool]) -> None:
    address = MqttAddress.parse(url) if isinstance(url, str) else url
    session = MqttSession(address, f"publisher-{free_port()}", persistent=False)
    task = asyncio.create_task(session.run())
    async with asyncio.timeout(BOUND):
        await session.publish(messages)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def payloads(path: Path) -> list[bytes]:
    return [record[-1] for record in stored(path)]


class Cut(MqttSession):
    """A session whose connection a test can cut, as a cable would."""

    all: ClassVar[list["Cut"]] = []

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.all.append(self)

    def cut(self) -> None:
        if self._link is not None:
            self._link.drop("cut by the test")


@pytest.mark.parametrize("version", [4, 5])
async def test_at_qos_2_each_message_is_stored_once_over_lost_connections(
    tmp_path: Path, mosquitto: Mosquitto, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = [b'{"n":%d}' % number for number in range(3_000)]
    topic, inbox = f"twice/{version}", tmp_path / "inbox.db"
    monkeypatch.setattr(mqtt, "MqttSession", Cut)
    Cut.all.clear()
    async with writing(inbox) as writer:
        member = Mqtt(topics=[topic], qos=2), intake(writer, mosquitto.url, f"qos2-{version}", version=version)
        async with receiving(member):
            publishing = asyncio.create_task(publish(mosquitto.url, *((topic, payload, 2, False) for payload in sent)))
            for cuts in range(1, 6):
                await until(lambda n=cuts: len(payloads(inbox)) >= 400 * n, "some have come")
                Cut.all[0].cut()
            await publishing
            await until(lambda: len(payloads(inbox)) >= 3_000, "all have come")
    assert len(Cut.all) == 1
    assert sorted(payloads(inbox)) == sorted(sent)


async def test_two_gateways_share_what_a_group_gets(tmp_path: Path, mosquitto: Mosquitto) -> None:
    async with writing(tmp_path / "a.db") as a, writing(tmp_path / "b.db") as b:
        source = Mqtt(topics=["shared/{device}/t"], share="gateways")
        async with (
            receiving((source, intake(a, mosquitto.url, "share-a"))),
            receiving((source, intake(b, mosquitto.url, "share-b"))),
        ):
            await publish(mosquitto.url, *((f"shared/{n}/t", b"{}", 1, False) for n in range(100)))
            await until(
                lambda: len(payloads(tmp_path / "a.db")) + len(payloads(tmp_path / "b.db")) >= 100, "all have come"
            )
    topics = [record[3] for name in ("a", "b") for record in stored(tmp_path / f"{name}.db")]
    assert sorted(topics) == sorted(f"shared/{n}/t" for n in range(100))
    assert payloads(tmp_path / "a.db")
    assert payloads(tmp_path / "b.db")


async def test_a_group_beside_a_plain_subscription_brings_nothing_twice(tmp_path: Path, mosquitto: Mosquitto) -> None:
    async with writing(tmp_path / "inbox.db") as writer:
        members = [
            (Mqtt(topics=["both/#"], share=share), intake(writer, mosquitto.url, "both", share or "plain"))
            for share in (None, "one", "two")
        ]
        async with receiving(*members):
            await publish(mosquitto.url, *(("both/t", b'{"n":%d}' % n, 1, False) for n in range(20)))
            await until(lambda: len(payloads(tmp_path / "inbox.db")) >= 60, "all have come")
    found = [(record[2], record[-1]) for record in stored(tmp_path / "inbox.db")]
    assert sorted(found) == sorted((name, b'{"n":%d}' % n) for name in ("plain", "one", "two") for n in range(20))


async def test_what_the_broker_had_kept_is_skipped_where_it_is_not_wanted(tmp_path: Path, mosquitto: Mosquitto) -> None:
    await publish(mosquitto.url, ("kept/t", b'{"old":1}', 1, True))
    async with writing(tmp_path / "inbox.db") as writer:
        on_connection = intake(writer, mosquitto.url, "kept")
        taking = intake(writer, mosquitto.url, "kept", "taking")
        skip = Mqtt(topics=["kept/t"], retained="skip")
        async with receiving((skip, on_connection), (Mqtt(topics=["kept/#"]), taking)):
            await publish(mosquitto.url, ("kept/t", b'{"new":1}', 1, False))
            await until(lambda: len(payloads(tmp_path / "inbox.db")) >= 3, "all have come")
    found = [(record[2], record[-1]) for record in stored(tmp_path / "inbox.db")]
    assert found == [("taking", b'{"old":1}'), ("gate", b'{"new":1}'), ("taking", b'{"new":1}')]


async def test_filters_that_another_covers_bring_nothing_twice(tmp_path: Path, mosquitto: Mosquitto) -> None:
    async with writing(tmp_path / "inbox.db") as writer:
        source = Mqtt(topics=["over/#", "over/+/t", "over/a/t"])
        async with receiving((source, intake(writer, mosquitto.url, "over"))):
            await publish(mosquitto.url, ("over/a/t", b'{"n":1}', 1, False), ("over/b/t", b'{"n":2}', 1, False))
            await until(lambda: len(payloads(tmp_path / "inbox.db")) >= 2, "both have come")
    assert payloads(tmp_path / "inbox.db") == [b'{"n":1}', b'{"n":2}']


class Secured(Server):
    """A Mosquitto that speaks TLS only and lets in who has a certificate of its authority."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.port = free_port()
        self.url = f"mqtts://localhost:{self.port}"
        for name in ("ca", "server", "client"):
            _certificate(folder, name)
        lines = [
            f"listener {self.port} {LOCALHOST}", f"user {getpass.getuser()}", "allow_anonymous true",
            f"cafile {folder}/ca.pem", f"certfile {folder}/server.pem", f"keyfile {folder}/server.key",
            "require_certificate true",
        ]  # fmt: skip
        (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")

    def command(self) -> list[str]:
        return [binary("mosquitto"), "-c", str(self.folder / "mosquitto.conf")]

    def ready(self) -> bool:
        return accepts(self.port)


def _certificate(folder: Path, name: str) -> None:
    """Make an authority, or a certificate of it."""
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    out = ["-keyout", f"{folder}/{name}.key", "-out", f"{folder}/{name}.pem", "-days", "2", "-subj", f"/CN={name}"]
    of = ["-CA", f"{folder}/ca.pem", "-CAkey", f"{folder}/ca.key"] if name != "ca" else []
    more = ["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"] if of else []
    done = subprocess.run([*new, *out, *of, *more], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[Secured]:
    folder = tmp_path / "secured"
    folder.mkdir()
    server = Secured(folder)
    server.start()
    yield server
    server.stop()


async def test_another_broker_by_tls_with_a_certificate_beside_the_one_of_the_installation(
    tmp_path: Path, mosquitto: Mosquitto, secured: Secured
) -> None:
    ours = {"ca": f"{secured.folder}/ca.pem"}
    whole = ours | {"certificate": f"{secured.folder}/client.pem", "key": f"{secured.folder}/client.key"}
    async with writing(tmp_path / "inbox.db") as writer:
        plant = Mqtt(topics=["t"], broker=MqttBroker(url=secured.url, **whole))
        own = intake(writer, mosquitto.url, "tls", "own")
        async with receiving((plant, intake(writer, mosquitto.url, "tls", "plant")), (Mqtt(topics=["tls/t"]), own)):
            address = MqttAddress.parse(secured.url).with_files(whole["ca"], whole["certificate"], whole["key"])
            await publish(address, ("t", b'{"n":1}', 1, False))
            await until(lambda: len(payloads(tmp_path / "inbox.db")) >= 1, "of the plant's broker")
            await publish(mosquitto.url, ("tls/t", b'{"n":2}', 1, False))
            await until(lambda: len(payloads(tmp_path / "inbox.db")) >= 2, "of the installation's")
        assert [record[2] for record in stored(tmp_path / "inbox.db")] == ["plant", "own"]
        for files, expected in (({}, "not trusted"), (whole | {"ca": "/nowhere.pem"}, "/nowhere.pem"), (ours, "")):
            stranger = intake(writer, secured.url, "stranger")
            task = asyncio.create_task(
                Mqtt.run_all([(Mqtt(topics=["t"], broker=MqttBroker(url=secured.url, **files)), stranger)])
            )
            seen = seen_by(stranger)
            await until(lambda s=seen: s.get("gate", ("", ""))[1], "it is told why")
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert seen["gate"][0] in ("connecting", "refused", "stopped")
            assert expected in seen["gate"][1]


LEVELS = """
flow: plant
sources: {{gate: {{mqtt: {{topics: ["line/{{line}}/+/t", "other/{{line}}/{{device}}"], payload: {payload}}}}}}}
operators: {{{operators}}}
sinks: {{out: {{from: {last}, log: out}}}}
"""
VALIDATE = "valid: {from: gate, validate: {fields: {line: {type: text}, t: {type: number, required: false}}}}"


def given(payload: str, *messages: tuple[str, bytes], operators: str = "", last: str = "gate") -> Harness:
    from engine.harness import Sent
    from engine.testing import START

    flow = load_text(LEVELS.format(payload=payload, operators=operators, last=last)).raise_findings()
    harness = Harness(flow)
    for at, (topic, body) in enumerate(messages):
        harness.send([Sent(START + at, "gate", body, topic)])
    return harness


@pytest.mark.parametrize("operators", ["", VALIDATE])
def test_named_levels_are_fields_and_win(operators: str) -> None:
    bodies = [b'{"t":20}', b" {} ", b'{"line":9,"t":1}', b"[1]", b'{"t":1', b'{"t":2,\n"u":{}}']
    found = given(
        "json", *(("line/3/x/t", body) for body in bodies), operators=operators, last="valid" if operators else "gate"
    )
    wanted: list[dict[str, Any]] = [
        {"t": 20, "line": "3"},
        {"line": "3"},
        {"t": 1, "line": "3"},
        {"t": 2, "u": {}, "line": "3"},
    ]
    if operators:
        wanted = [{"t": data.get("t"), "line": "3"} for data in wanted]
    assert [event.data for event in found.out["out"]] == wanted
    assert [letter.payload for letter in found.dead] == [b"[1]", b'{"t":1']
    other = given("json", ('other/ä"/b', b"{}"), ("line/3/x/t", b"{}"))
    assert [event.data for event in other.out["out"]] == [{"line": 'ä"', "device": "b"}, {"line": "3"}]


@pytest.mark.parametrize(
    ("payload", "body", "value"),
    [
        ("any", b"21.5", {"value": 21.5}),
        ("any", b'{"a": 1}', {"a": 1}),
        ("text", b"ST,GS,+3.10kg", {"value": "ST,GS,+3.10kg"}),
        ("bytes", b"\x00\xff", {"value": "AP8="}),
        ("msgpack", b"\x81\xa1a\x01", {"a": 1}),
        ("text", b"\xff", None),
        ("msgpack", b"\x01", None),
        ("msgpack", b"\x81\x01\x01", None),
        ("msgpack", b"\xc1", None),
    ],
)
def test_what_a_payload_is(payload: str, body: bytes, value: dict[str, Any] | None) -> None:
    for topic, more in (("line/3/x/t", {"line": "3"}), ("none", {})):
        found = given(payload, (topic, body))
        assert [event.data for event in found.out["out"]] == ([value | more] if value is not None else [])
        assert [letter.payload for letter in found.dead] == ([body] if value is None else [])


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ("topics: ['a/{b']", "levels like {line}"),
        ("topics: ['a/x{b}']", "levels like {line}"),
        ("topics: ['a/{b}/{b}']", "each name once"),
        ("topics: ['a/#/{b}']", "a topic filter"),
        ("topics: ['$share/g/a'], share: g", "without a group"),
        ("topics: [a], share: g/h", "a group's name"),
        ("topics: [a], broker: 'http://x'", "a scheme other"),
        ("topics: [a], broker: {url: 'mqtt://x', ca: ca.pem}", "mqtts:// where there are certificates"),
        ("topics: [a], broker: {url: 'mqtts://x', key: k.pem}", "a certificate beside the key"),
    ],
)
def test_what_is_wrong_is_found(options: str, text: str) -> None:
    flow = load_text(f"flow: f\nsources: {{g: {{mqtt: {{{options}}}}}}}\nsinks: {{o: {{from: g, log: o}}}}\n")
    assert any(text in str(finding) for finding in flow.document.findings), [str(f) for f in flow.document.findings]


@pytest.mark.parametrize(
    ("wide", "narrow", "expected"),
    [
        ("#", "a/b", True),
        ("#", "$SYS/x", False),
        ("+/x", "$SYS/x", False),
        ("a/#", "a", True),
        ("a/#", "a/+/#", True),
        ("a/+", "a/#", False),
        ("a/+", "a/b", True),
        ("a/+", "+/b", False),
        ("a/b", "a/+", False),
        ("a/+/c", "a/+", False),
        ("$share/g/#", "$share/g/a", False),
    ],
)
def test_a_filter_covers_another(wide: str, narrow: str, expected: bool) -> None:
    assert covers(wide, narrow) is expected


def test_subscriptions_are_as_few_as_can_be() -> None:
    wanted: Sequence[tuple[str, int]] = [("a/b", 2), ("a/+", 0), ("a/#", 1), ("b", 1), ("b", 0), ("$share/g/a", 1)]
    assert subscriptions(wanted) == [("a/#", 2), ("b", 1), ("$share/g/a", 1)]


def test_levels() -> None:
    levels = TopicLevels(["line/{line}/+/t", "a/#", "{x}/{y}"])
    assert filter_of("line/{line}/+/t") == "line/+/+/t"
    assert matches("line/+/+/t", "line/3/x/t")
    assert [levels.fields(topic) for topic in ("line/3/x/t", "a/b", "c/d", "e")] == [
        {"line": "3"}, {}, {"x": "c", "y": "d"}, {},
    ]  # fmt: skip
    joined = levels.joined(b'{"line":{"a":"}"}}', "line/3/x/t")
    assert msgspec.json.decode(joined) == {"line": "3"}
