"""Rubbish in, mended and retried: each row is there once, under the id that its event had, whoever is killed meanwhile."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from engine.mqtt import MqttAddress, MqttSession
from tests.millstream_process import Millstream, MillstreamFactory
from tests.process import ROOT, wait_until

FLOW = """
flow: plant
tables:
  raw:     {id: serial, i: int}
  reading: {id: serial, i: int, n: number, kind: text(5)}
sources:
  told:  {mqtt: {topics: [plant/said], qos: 1}}
  asked: {http: {post: /readings, allow: anyone}}
operators:
  checked: {from: [told, asked], validate: {i: int, n: number, kind: {type: text, default: OK}}}
  stats:   {from: checked, tally: {of: kind, good: OK, bad: BAD, by: [kind]}}
sinks:
  raws:  {from: [told, asked], sql: {table: raw}}
  rows:  {from: checked, sql: {table: reading}}
  push:  {from: stats, channel: {name: dashboard, event: stats, keep: last}}
channels:
  dashboard: {path: /ws/dashboard}
queries:
  stats: {get: /stats, allow: anyone, channel: dashboard.stats}
"""
MANY = 2_000


@pytest.fixture
def plant(tmp_path: Path, millstream_process: MillstreamFactory) -> Millstream:
    (tmp_path / "plant.yaml").write_text(FLOW)
    return millstream_process(tmp_path / "plant.yaml")


def table(plant: Millstream, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(plant.data / "millstream.db", timeout=30)) as database:
        return database.execute(sql).fetchall()


def post(plant: Millstream, *readings: dict[str, Any]) -> None:
    assert httpx2.post(f"{plant.url}/readings", json=readings).status_code == 202


def total(plant: Millstream) -> int:
    return int(httpx2.get(f"{plant.url}/stats").json()["total"])


def letters(plant: Millstream, *arguments: str) -> Any:
    """Run `millstream deadletters plant ARGUMENTS --json`."""
    command = [sys.executable, "-m", "millstream", "deadletters", "plant", *arguments, "--json"]
    done = subprocess.run(command, cwd=ROOT, env=plant.environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def states(plant: Millstream) -> Any:
    return letters(plant)["states"]


def kill_worker(plant: Millstream) -> None:
    for pid in plant.worker_pids():
        psutil.Process(pid).kill()


async def say(plant: Millstream, payload: bytes) -> None:
    session = MqttSession(MqttAddress("127.0.0.1", plant.broker_port), "rubbish", version=4)
    running = asyncio.create_task(session.run())
    await session.connected(10)
    await session.publish([("plant/said", payload, 1, False)])
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def test_rubbish_is_mended_at_its_source(plant: Millstream) -> None:
    asyncio.run(say(plant, b'{"i": 1, "n": '))
    wait_until(lambda: states(plant) == {"new": 1}, "the dead letter is there")
    [letter] = letters(plant, "show", "1")
    assert (letter["node"], letter["text"]) == ("told", '{"i": 1, "n": ')
    assert table(plant, "SELECT * FROM raw") == []
    letters(plant, "fix", "1", "--data", '{"i": 1, "n": 2.5}', "--retry")
    wait_until(lambda: table(plant, "SELECT i, n FROM reading") == [(1, 2.5)], "the row is there")
    rows = table(plant, "SELECT hex(_event) FROM raw UNION ALL SELECT hex(_event) FROM reading")
    assert [event.lower() for (event,) in rows] == [letter["id"]] * 2
    wait_until(lambda: total(plant) == 1, "it is counted")
    assert states(plant) == {"retried": 1}


def test_kills_in_the_middle_lose_and_double_nothing(plant: Millstream) -> None:
    post(plant, *({"i": i, "n": "rubbish"} for i in range(MANY)))
    post(plant, {"i": -1, "n": 1})
    wait_until(lambda: states(plant) == {"new": MANY}, "every bad one is a dead letter", 60)
    ids = {letter["id"] for letter in letters(plant, "list", "--limit", "1000")["letters"]}
    letters(plant, "fix", "--all", "--set", "n=3")
    retrying = subprocess.Popen(
        [sys.executable, "-m", "millstream", "deadletters", "plant", "retry", "--node", "checked"],
        cwd=ROOT, env=plant.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_until(lambda: len(table(plant, "SELECT 1 FROM reading")) > 1, "the first of them are stored")
    kill_worker(plant)
    wait_until(lambda: plant.health() == 200, "another worker runs", 60)
    plant.power_cut()
    retrying.wait(30)
    plant.start()
    letters(plant, "retry", "--all")
    wait_until(lambda: len(table(plant, "SELECT 1 FROM reading")) > MANY, "every row is there", 60)
    assert states(plant) == {"retried": MANY}
    assert sorted(table(plant, "SELECT i FROM reading")) == [(i,) for i in range(-1, MANY)]
    assert len(table(plant, "SELECT 1 FROM raw")) == MANY + 1
    found = {event.lower() for (event,) in table(plant, "SELECT hex(_event) FROM reading WHERE n = 3")}
    assert len(found) == MANY
    assert ids < found
    wait_until(lambda: total(plant) >= MANY + 1, "all are counted", 60)
    assert total(plant) == MANY + 1
