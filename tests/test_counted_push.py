"""A push of many rows in one request is answered with what became of them, as a phone that syncs needs it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.millstream_process import Millstream
from tests.process import wait_until

FLOW = """
flow: phones
tables:
  sample: {session: text(40), sensor: text(20), at: int, value: number, updated_at: int, unique: [[session, sensor, at]]}
sources:
  push: {http: {post: /push, allow: anyone, reply: flow, most: 32MiB}}
operators:
  each:    {from: push, split: {of: samples}}
  samples:
    from: each
    validate:
      session: {type: text}
      sensor: {type: text, max: 20}
      at: {type: int}
      value: {type: number}
      updated_at: {type: int}
sinks:
  stored: {from: samples, sql: {table: sample, mode: upsert, by: [session, sensor, at], newest: updated_at}}
  answer: {from: push, reply: {fields: [session], counts: stored}}
"""
NOTHING = {"session": "s", "inserted": 0, "updated": 0, "unchanged": 0, "errors": 0, "reasons": []}


@pytest.fixture(params=["sqlite", "mariadb", "postgresql"])
def phones(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Millstream]:
    (tmp_path / "phones.yaml").write_text(FLOW)
    env = {}
    if request.param != "sqlite":
        env = {"MILLSTREAM_DATABASE": request.getfixturevalue(request.param).database("phones")}
    with Millstream(tmp_path, tmp_path / "phones.yaml", env=env) as running:
        yield running


def push(phones: Millstream, samples: list[dict[str, Any]]) -> dict[str, Any]:
    body = json.dumps({"session": "s", "samples": samples})
    answer = httpx2.post(f"{phones.url}/push", content=body, timeout=30)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def sample(at: int, value: float, updated_at: int = 1) -> dict[str, Any]:
    return {"sensor": "accelerometer", "at": at, "value": value, "updated_at": updated_at}


def test_a_push_is_answered_with_its_counts(phones: Millstream) -> None:
    first = [sample(n, n / 7) for n in range(3_000)]
    assert push(phones, first) == NOTHING | {"inserted": 3_000}
    assert push(phones, first) == NOTHING | {"unchanged": 3_000}
    newer = [sample(n, -1.0, updated_at=2) for n in range(10)]
    assert push(phones, [*newer, *first[10:20], sample(9_000, 1.0)]) == NOTHING | {
        "inserted": 1, "updated": 10, "unchanged": 10,
    }  # fmt: skip
    older = [sample(n, 5.0) for n in range(10)]
    assert push(phones, older) == NOTHING | {"unchanged": 10}
    assert push(phones, []) == NOTHING
    same = [sample(9_100, 1.0), sample(9_100, 2.0, updated_at=2), sample(9_100, 0.5)]
    assert push(phones, same) == NOTHING | {"inserted": 1, "updated": 1, "unchanged": 1}
    told = push(phones, [sample(9_200, 1.0), {"sensor": "x" * 30, "at": "noon"}, *[{"at": n} for n in range(30)]])
    assert (told["inserted"], told["errors"], len(told["reasons"])) == (1, 31, 20)
    assert "sensor" in told["reasons"][0]
    wait_until(lambda: counted(phones) == {"inserted": 3_003, "updated": 11, "unchanged": 3_021}, "the metrics tell")


def counted(phones: Millstream) -> dict[str, int]:
    lines = httpx2.get(f"{phones.url}/metrics", timeout=10).text.splitlines()
    head = 'millstream_node_events_total{flow="phones",node="stored",what="'
    found = dict(line.removeprefix(head).split('"} ') for line in lines if line.startswith(head))
    return {name: int(float(found[name])) for name in ("inserted", "updated", "unchanged") if name in found}
