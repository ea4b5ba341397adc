"""An alert fires when its time has come: with no message after the first, and whatever is killed in between."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from engine.inbox_reader import InboxReader
from tests.millstream_process import Millstream, MillstreamFactory
from tests.process import wait_until

FLOW = """
flow: nursery
sources: {readings: {http: {post: /readings, allow: anyone}}}
operators:
  hot:
    from: readings
    where: t != none
    key: cradle
    alert: {when: t > 38, for: FOR, repeat: 1h, allow: anyone, handle: anyone}
"""
LATE = 0.5


def started(factory: MillstreamFactory, folder: Path, hold: int) -> Millstream:
    flow = folder / "nursery.yaml"
    flow.write_text(FLOW.replace("FOR", f"{hold}s"))
    return factory(flow)


def post(running: Millstream, path: str, body: Any) -> None:
    answer = httpx2.post(f"{running.url}{path}", json=body, timeout=20, trust_env=False)
    assert answer.status_code == 202, answer.text


def alerts(running: Millstream) -> list[dict[str, Any]]:
    answer = httpx2.get(f"{running.url}/flows/nursery/alerts", timeout=20, trust_env=False)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()
    return found


def seen(running: Millstream, within: float) -> tuple[dict[str, Any], float]:
    """Return the alert, and when it was first to be seen."""
    wait_until(lambda: stored(running), "the alert is stored", within)
    at = time.time()
    return alerts(running)[0], at


def stored(running: Millstream) -> int:
    with closing(sqlite3.connect(running.data / "millstream.db")) as connection:
        return int(connection.execute("select count(*) from alert").fetchone()[0])


def gap(running: Millstream) -> float:
    """Return for how long, in seconds, nothing could come."""
    (inbox,) = running.data.rglob("inbox.db")
    with closing(InboxReader(inbox)) as reader:
        return sum(found.end - found.start for found in reader.gaps()) / 1e6


def unix(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def nothing(running: Millstream) -> None:
    """Let it run."""


def kill_worker(running: Millstream) -> None:
    (pid,) = running.worker_pids()
    os.kill(pid, signal.SIGKILL)


def kill_all(running: Millstream) -> None:
    running.power_cut()
    running.start()


@pytest.mark.parametrize("disturb", [nothing, kill_worker, kill_all])
def test_an_alert_fires_by_time_alone(
    disturb: Callable[[Millstream], None], tmp_path: Path, millstream_process: MillstreamFactory
) -> None:
    """The time in which the gateway was down does not count for the hold."""
    running = started(millstream_process, tmp_path, 4)
    post(running, "/readings", {"cradle": "7", "t": 39})
    disturb(running)
    alert, at = seen(running, 30)
    due = unix(alert["since"]) + 4 + gap(running)
    assert unix(alert["fired_at"]) == pytest.approx(due, abs=0.001)
    assert 0 <= at - due < LATE, at - due
    assert (alert["state"], alert["key"], alert["reading"]) == ("firing", "7", {"t": 39})


def test_an_alert_fires_after_thirty_seconds(tmp_path: Path, millstream_process: MillstreamFactory) -> None:
    running = started(millstream_process, tmp_path, 30)
    post(running, "/readings", {"cradle": "7", "t": 39})
    kill_worker(running)
    alert, at = seen(running, 60)
    assert unix(alert["fired_at"]) == unix(alert["since"]) + 30
    assert 0 <= at - unix(alert["since"]) - 30 < LATE


def test_time_in_which_everything_was_down_counts_where_the_condition_still_holds(
    tmp_path: Path, millstream_process: MillstreamFactory
) -> None:
    running = started(millstream_process, tmp_path, 8)
    post(running, "/readings", {"cradle": "7", "t": 39})
    kill_all(running)
    post(running, "/readings", {"cradle": "7", "t": 38.5})
    alert, at = seen(running, 30)
    due = max(unix(alert["since"]) + 8, unix(alert["fired_at"]))
    assert gap(running) > 1
    assert 0 <= at - due < LATE
    assert unix(alert["fired_at"]) - unix(alert["since"]) < 8 + gap(running)


def test_what_people_do_survives_a_kill(tmp_path: Path, millstream_process: MillstreamFactory) -> None:
    running = started(millstream_process, tmp_path, 0)
    post(running, "/readings", [{"cradle": "7", "t": 39}, {"cradle": "8", "t": 39}, {"cradle": "9", "t": 39}])
    wait_until(lambda: len(alerts(running)) == 3, "three alerts are there")
    ids = {alert["key"]: alert["alert"] for alert in alerts(running)}
    post(running, "/flows/nursery/alerts/acknowledge", {"alert": ids["7"]})
    post(running, "/flows/nursery/alerts/clear", {"alerts": [ids["8"]]})
    post(running, "/flows/nursery/alerts/mute", {"for": "1h"})
    kill_all(running)
    post(running, "/readings", [{"cradle": "9", "t": 30}, {"cradle": "8", "t": 39}])
    wait_until(lambda: states(running)["9"] == "cleared", "the last one is cleared")
    assert states(running) == {"7": "acknowledged", "8": "cleared", "9": "cleared"}
    assert {alert["key"]: alert["muted_until"] is not None for alert in alerts(running)} == {
        "7": True,
        "8": False,
        "9": True,
    }
    assert [alert["acknowledged_at"] is None for alert in alerts(running)] == [True, True, False]


def states(running: Millstream) -> dict[str, str]:
    return {alert["key"]: alert["state"] for alert in alerts(running)}
