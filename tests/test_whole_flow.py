"""One flow with the components that the pack does not use, run as operations run it."""

import asyncio
import json
from collections.abc import Iterator, Sequence

import httpx2
import pytest

from engine.mqtt import Message, MqttAddress, MqttSession
from tests.millstream_process import Millstream
from tests.process import wait_until

FLOW = """
flow: plant
tables:
  minute: {id: serial, machine: text(10), start: time, mean: number, n: int}
  word:   {id: serial, word: text(20)}
  state:  {id: serial, machine: text(10), t: number, unique: [[machine]]}
sources:
  logged: {file: {path: readings.csv, format: csv, time: at}}
  asked:  {http: {post: /ask, allow: anyone, reply: flow}}
  told:   {mqtt: {topics: [plant/+/said], qos: 1}}
operators:
  minutes: {from: logged, key: machine, window: {every: 1m, by: event, idle: 1s, compute: {mean: {mean: t}, n: count}}}
  named:   {from: minutes, set: {machine: key}}
  doubled: {from: asked, python: {file: plant.py, function: doubled}}
  words:   {from: told, python: {file: plant.py, function: words}}
sinks:
  stored:  {from: named, sql: {table: minute}}
  latest:  {from: logged, sql: {table: state, mode: upsert, by: [machine]}}
  answer:  {from: doubled, reply: {status: 200}}
  spoken:  {from: words, sql: {table: word}}
  echo:    {from: words, mqtt: {topic: "'plant/echo/' + word"}}
queries:
  minutes: {get: /minutes, allow: anyone, table: minute, filters: [machine]}
  words:   {get: /words, allow: anyone, table: word}
  states:  {get: /states, allow: anyone, table: state}
"""
PYTHON = """
def doubled(data):
    return {"twice": data["n"] * 2}


def words(data):
    return [{"word": word} for word in data["text"].split()]
"""
CSV = "at,machine,t\n" + "".join(
    f"2026-01-01T00:{second // 60:02}:{second % 60:02}Z,{machine},{second}\n"
    for second in range(175)
    for machine in "AB"
)


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Millstream]:
    folder = tmp_path_factory.mktemp("plant")
    (folder / "plant.yaml").write_text(FLOW)
    (folder / "plant.py").write_text(PYTHON)
    (folder / "readings.csv").write_text(CSV)
    with Millstream(folder, folder / "plant.yaml") as running:
        yield running


def rows(plant: Millstream, path: str) -> list[dict[str, object]]:
    return httpx2.get(plant.url + path).json()  # type: ignore[no-any-return]


def test_windows_over_a_file_close_by_event_time_and_the_last_by_the_clock(plant: Millstream) -> None:
    wait_until(lambda: len(rows(plant, "/minutes")) == 6, "three windows of two machines")
    found = {(row["machine"], row["start"]): (row["mean"], row["n"]) for row in rows(plant, "/minutes")}
    assert found["A", "2026-01-01T00:00:00Z"] == (29.5, 60)
    assert found["B", "2026-01-01T00:01:00Z"] == (89.5, 60)
    assert found["B", "2026-01-01T00:02:00Z"] == (147.0, 55)


def test_an_upsert_keeps_the_latest_of_each_machine(plant: Millstream) -> None:
    wait_until(lambda: len(rows(plant, "/states")) == 2, "a row for each machine")
    wait_until(lambda: {row["t"] for row in rows(plant, "/states")} == {174.0}, "the last reading")


def test_a_request_is_answered_by_the_flow(plant: Millstream) -> None:
    answer = httpx2.post(plant.url + "/ask", json={"n": 21})
    assert (answer.status_code, answer.json()) == (200, {"twice": 42})
    refused = httpx2.post(plant.url + "/ask", json={"m": 21})
    assert refused.status_code == 422
    assert "KeyError" in refused.json()["error"]["message"]


def test_a_message_is_split_stored_and_published(plant: Millstream) -> None:
    heard: list[str] = []

    async def talk() -> None:
        def hear(messages: Sequence[Message]) -> None:
            heard.extend(message.topic for message in messages)
            session.acknowledge(messages)
            if len(heard) == 2:
                both.set()

        both = asyncio.Event()
        session = MqttSession(
            MqttAddress("127.0.0.1", plant.broker_port),
            "tester",
            on_messages=hear,
            topics=[("plant/echo/#", 1)],
            version=4,
        )
        running = asyncio.create_task(session.run())
        await session.connected(10)
        await session.publish([("plant/a/said", json.dumps({"text": "hello flow"}).encode(), 1, False)])
        async with asyncio.timeout(20):
            await both.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(talk())
    assert heard == ["plant/echo/hello", "plant/echo/flow"]
    wait_until(lambda: len(rows(plant, "/words")) == 2, "two rows")


def test_a_restart_reads_no_line_twice(plant: Millstream) -> None:
    wait_until(lambda: len(rows(plant, "/minutes")) == 6, "three windows of two machines")
    plant.power_cut()
    plant.start()
    answer = httpx2.post(plant.url + "/ask", json={"n": 1})
    assert answer.json() == {"twice": 2}
    assert len(rows(plant, "/minutes")) == 6
    assert sorted(row["word"] for row in rows(plant, "/words")) == ["flow", "hello"]  # type: ignore[type-var]
