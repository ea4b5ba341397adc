"""A client that repeats its request under its key, with `kill -9` in between: one row, and the answer of the first."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import httpx2

from tests.millstream_process import Millstream, MillstreamFactory

FLOW = """
flow: keyed
tables: {result: {id: serial, device: text(20), result: text(10)}}
sources: {by_hand: {http: {post: /result, allow: anyone, reply: row}}}
sinks: {results: {from: by_hand, sql: {table: result}}}
"""
KEY = {"Idempotency-Key": "0f6c"}


def post(running: Millstream, body: dict[str, str], key: dict[str, str] = KEY) -> httpx2.Response:
    return httpx2.post(f"{running.url}/result", json=body, headers=key, timeout=20, trust_env=False)


def devices(running: Millstream) -> list[str]:
    with closing(sqlite3.connect(running.data / "millstream.db")) as connection:
        return [row[0] for row in connection.execute("select device from result order by id")]


def test_a_request_is_answered_alike_before_and_after_everything_was_killed(
    tmp_path: Path, millstream_process: MillstreamFactory
) -> None:
    flow = tmp_path / "keyed.yaml"
    flow.write_text(FLOW)
    running = millstream_process(flow)
    first = post(running, {"device": "LED", "result": "OK"})
    assert (first.status_code, first.json()["id"]) == (201, 1)
    for _ in range(2):
        assert post(running, {"device": "LED", "result": "OK"}).content == first.content
        running.power_cut()
        running.start()
        again = post(running, {"device": "LED", "result": "OK"})
        assert (again.status_code, again.content) == (201, first.content)
    other = post(running, {"device": "WHEEL", "result": "OK"})
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
    post(running, {"device": "WHEEL", "result": "OK"}, {"Idempotency-Key": "another"})
    assert devices(running) == ["LED", "WHEEL"]
