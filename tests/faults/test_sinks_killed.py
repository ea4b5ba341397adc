"""`kill -9` while sinks write: each event is in the files once, and a receiver can tell what comes again by its key."""

import gzip
import json
import random
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pyarrow.parquet
import pytest

from tests.process import LOCALHOST, free_port, wait_until
from tests.services import Millstream, MillstreamFactory
from tests.sinks.http_target import HttpTarget, Said

FLOW = """\
flow: line
sources:
  in: {http: {post: /in, allow: anyone}}
sinks:
  lines:  {from: in, file: {path: "by line/{n % 3}.jsonl", fields: [n]}}
  rows:   {from: in, file: {path: rows.csv.gz, format: csv, fields: [n], rotate: {largest: 3KiB}}}
  tables: {from: in, file: {path: "{date}.parquet", format: parquet, rotate: {every: 300ms}}}
  hook:   {from: in, http: {url: "HOOK", batch: 50}}
"""
CHUNK, MESSAGES = 100, 6_000


@pytest.fixture
def hook() -> Iterator[HttpTarget]:
    with HttpTarget() as target:
        yield target


class Sender(threading.Thread):
    """Posts numbered events; a chunk that was not acknowledged is posted again under its key."""

    def __init__(self, process: Millstream) -> None:
        super().__init__(daemon=True)
        self.process, self.sent = process, 0

    def run(self) -> None:
        while self.sent < MESSAGES:
            body = [{"n": self.sent + number} for number in range(CHUNK)]
            headers = {"Idempotency-Key": f"chunk {self.sent}"}
            try:
                answer = httpx2.post(f"{self.process.url}/in", json=body, headers=headers, timeout=10, trust_env=False)
            except httpx2.HTTPError:
                continue
            self.sent += CHUNK if answer.status_code == 202 else 0


def folder(process: Millstream) -> Path:
    return process.data / "files" / "line"


def written(process: Millstream) -> dict[str, list[int]]:
    """Return the numbers in the files of each sink, in the order of the files."""
    found: dict[str, list[int]] = {"lines": [], "rows": [], "tables": []}
    for path in sorted(folder(process).rglob("*")):
        if path.suffix == ".jsonl":
            found["lines"] += [json.loads(line)["n"] for line in path.read_text().splitlines()]
        elif path.suffix == ".gz":
            lines = gzip.decompress(path.read_bytes()).split()
            assert lines[0] == b"n"
            found["rows"] += [int(line) for line in lines[1:]]
        elif path.suffix == ".parquet":
            found["tables"] += pyarrow.parquet.read_table(path).column("n").to_pylist()
    return found


def received(hook: HttpTarget) -> dict[str, Any]:
    return {asked.headers["Idempotency-Key"]: asked.json for asked in list(hook.asked)}


def kill_worker(process: Millstream) -> None:
    [pid] = process.worker_pids()
    psutil.Process(pid).kill()
    wait_until(lambda: process.worker_pids() not in ([], [pid]), "another worker is there", 30)


def test_a_kill_loses_nothing_and_files_have_everything_once(
    tmp_path: Path, hook: HttpTarget, millstream_process: MillstreamFactory
) -> None:
    flow = tmp_path / "line.yaml"
    flow.write_text(FLOW.replace("HOOK", hook.url))
    process = millstream_process(flow)
    sender = Sender(process)
    sender.start()
    moments = sorted(random.SystemRandom().sample(range(500, MESSAGES - 1_000), 4))
    for at, moment in enumerate(moments):
        wait_until(lambda moment=moment: sender.sent >= moment, f"{moment} are sent", 60)  # type: ignore[misc]
        if at == 2:
            process.power_cut()
            process.start()
        else:
            kill_worker(process)
    sender.join(90)
    expected = list(range(MESSAGES))
    wait_until(lambda: all(len(numbers) >= MESSAGES for numbers in written(process).values()), "all is in files", 60)
    wait_until(lambda: not list(folder(process).glob(".*")), "no Parquet file is on its way", 20)
    found = written(process)
    assert {name: sorted(numbers) for name, numbers in found.items()} == dict.fromkeys(found, expected)
    assert found["rows"] == expected
    assert len(list(folder(process).glob("rows-*.csv.gz"))) > 1
    heard = {item["n"] for body in received(hook).values() for item in body}
    wait_until(lambda: {i["n"] for body in received(hook).values() for i in body} == set(expected), f"{len(heard)}", 30)


NOTICES = """\
flow: line
tables: {reading: {id: serial, n: int}}
sources:
  in: {http: {post: /in, allow: anyone}}
sinks:
  rows: {from: in, sql: {table: reading}}
  told: {from: in, notify: {urls: ["json://HOST/x"], text: "{{ n }}", at_most: 10/s, retry: {times: 1, wait: 10ms}}}
"""


def test_a_notice_that_nobody_takes_is_shown_and_holds_up_nothing(
    tmp_path: Path, millstream_process: MillstreamFactory
) -> None:
    flow, port = tmp_path / "line.yaml", free_port()
    flow.write_text(NOTICES.replace("HOST", f"{LOCALHOST}:{port}"))
    process = millstream_process(flow)

    def post(first: int, number: int) -> None:
        body = [{"n": n} for n in range(first, first + number)]
        answer = httpx2.post(f"{process.url}/in", json=body, timeout=10, trust_env=False)
        assert answer.status_code == 202

    def letters() -> int:
        with closing(sqlite3.connect(process.data / "flows" / "line" / "deadletters.db")) as connection:
            try:
                return int(connection.execute("select count(*) from dead").fetchone()[0])
            except sqlite3.OperationalError:
                return 0  # not there before the first one

    def stored() -> int:
        with closing(sqlite3.connect(process.data / "millstream.db")) as connection:
            return int(connection.execute("select count(*) from reading").fetchone()[0])

    for first in range(0, 2_000, 100):
        post(first, 100)
    wait_until(lambda: stored() == 2_000, "all rows are there", 20)
    wait_until(lambda: "sink cannot reach its target" in process.output(), "it is said", 20)
    wait_until(lambda: letters() >= 1_000, "they are dead letters", 30)
    with HttpTarget(lambda _: Said(200), port) as there:
        post(2_000, 1)
        wait_until(lambda: there.asked, "it is told when somebody is there", 20)
