"""The ledger over kills: its totals are those of a run in which nothing went wrong, to the last event."""

import random
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from cli.control import Control
from engine.errors import MillstreamError
from engine.ledger import GIVEN
from engine.settings import read_environment
from tests.process import wait_until
from tests.services import Millstream

FLOW = """\
flow: books
tables: {reading: {id: serial, n: int, label: text(8)}}
sources:
  in: {http: {post: /in, allow: anyone}}
operators:
  checked: {from: in, validate: {n: int, k: text, label: text}}
  once:    {from: checked, key: k, dedupe: {by: n, within: 10m}}
  even:    {from: once, where: n % 2 == 0}
  calm:    {from: once, key: k, throttle: {every: 200ms, keep: last}}
  sums:    {from: once, key: k, window: {every: 500ms, by: arrival}}
sinks:
  rows:   {from: even, sql: {table: reading}}
  pushed: {from: [sums, calm], channel: {name: board, event: sum, keep: last, at_most: 10/s}}
channels:
  board: {path: /ws/board, open: true}
"""
REQUESTS, SIZE = 100, 100
PATIENCE = 60.0


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Millstream]:
    (tmp_path / "books.yaml").write_text(FLOW)
    with Millstream(tmp_path, tmp_path / "books.yaml") as process:
        yield process


def request(number: int) -> list[dict[str, Any]]:
    """One request in ten sends another one again; one event in a hundred is rubbish, one has a label that is too long."""
    events = [{"n": n, "k": f"k{n % 7}", "label": "fits"} for n in range(number * SIZE, (number + 1) * SIZE)]
    events[13]["n"] = "thirteen"
    events[14]["label"] = "far too long for its column"
    return request(number - 1) if number % 10 == 9 else events


class Sender(threading.Thread):
    """Posts all requests; one that gets no answer is sent again under its key."""

    def __init__(self, process: Millstream) -> None:
        super().__init__(daemon=True)
        self.process, self.sent = process, 0

    def run(self) -> None:
        with httpx2.Client(base_url=self.process.url, timeout=5, trust_env=False) as client:
            for number in range(REQUESTS):
                while not self._post(client, number):
                    pass
                self.sent += 1

    def _post(self, client: httpx2.Client, number: int) -> bool:
        with suppress(httpx2.HTTPError):
            answer = client.post("/in", json=request(number), headers={"Idempotency-Key": f"r{number}"})
            return answer.status_code == 202
        return False


def ledger(process: Millstream) -> dict[str, int]:
    """Return the terms; empty while nothing answers."""
    with suppress(MillstreamError):
        control = Control(read_environment({"MILLSTREAM_DATA": str(process.data)}))
        found: dict[str, int] = control.get("/flows/books/ledger")["ledger"]
        return found
    return {}


def balanced(process: Millstream) -> dict[str, int]:
    """Return the terms, checked; empty while nothing answers."""
    terms = ledger(process)
    if terms:
        assert_balanced(terms)
    return terms


def assert_balanced(terms: dict[str, int]) -> None:
    ends = sum(count for term, count in terms.items() if term not in (*GIVEN, "remainder"))
    assert (terms["remainder"], sum(terms[term] for term in GIVEN)) == (0, ends), terms


def kill_worker(process: Millstream) -> None:
    [worker] = process.worker_pids()
    psutil.Process(worker).kill()
    wait_until(lambda: process.worker_pids() not in ([], [worker]), "another worker is there", PATIENCE)


def power_cut(process: Millstream) -> None:
    process.power_cut()
    process.start()


def test_totals_are_exact_after_kills_in_the_middle(books: Millstream) -> None:
    sender = Sender(books)
    sender.start()
    moments = sorted(random.SystemRandom().sample(range(5, REQUESTS - 10), 3))
    for moment, disturb in zip(moments, (kill_worker, power_cut, kill_worker), strict=True):
        wait_until(lambda moment=moment: balanced(books) and sender.sent >= moment, f"{moment} requests", PATIENCE)  # type: ignore[misc]
        disturb(books)
        wait_until(lambda: balanced(books), "a worker tells its ledger", PATIENCE)
    sender.join(PATIENCE)
    assert sender.sent == REQUESTS
    total = REQUESTS * SIZE
    wait_until(lambda: settled(balanced(books), total), "all is processed", PATIENCE)
    found = balanced(books)
    rubbish, repeats = REQUESTS, (REQUESTS // 10) * (SIZE - 1)
    unique = total - rubbish - repeats
    requests = REQUESTS - REQUESTS // 10
    assert found["received"] == total
    assert found["deduplicated"] == repeats
    assert found["branched"] == 2 * unique
    assert found["dead"] == rubbish + requests
    assert found["filtered"] == requests * (SIZE // 2 - 1)
    metrics = httpx2.get(f"{books.url}/metrics", timeout=5, trust_env=False).text
    assert 'millstream_ledger_remainder{flow="books"} 0.0' in metrics
    assert f'millstream_ledger_events{{flow="books",term="received"}} {float(total)}' in metrics


def test_totals_go_on_over_a_redeploy_that_changes_the_graph(books: Millstream) -> None:
    post(books, 0)
    wait_until(lambda: settled(balanced(books), SIZE), "the first request is processed", PATIENCE)
    books.stop()
    file = books.folder / "books.yaml"
    file.write_text(FLOW.replace("channels:", "  also: {from: once, log: {level: debug}}\nchannels:"))
    books.start()
    post(books, 1)
    wait_until(lambda: settled(balanced(books), 2 * SIZE), "the second request is processed", PATIENCE)
    found = balanced(books)
    assert (found["branched"], found["dead"]) == (2 * (SIZE - 1) + 3 * (SIZE - 1), 4)


def post(process: Millstream, number: int) -> None:
    answer = httpx2.post(f"{process.url}/in", json=request(number), timeout=5, trust_env=False)
    assert answer.status_code == 202


def settled(terms: dict[str, int], total: int) -> bool:
    return bool(terms) and terms["received"] == total and terms["in_flight"] == 0
