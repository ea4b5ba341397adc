"""The time between snapshots grows with what they write."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from engine.compile import make_ready
from engine.epoch import epoch_for

MIB = 1 << 20


def test_a_flow_that_has_not_run_yet(tmp_path: Path) -> None:
    assert epoch_for(tmp_path / "recovery").total_seconds() == 0.5


@pytest.mark.parametrize(
    ("shards", "size", "seconds"), [(0, 0, 0.5), (16, 1000, 0.5), (16, MIB // 2, 1.12), (16, 4 * MIB, 5.0)]
)
def test_only_the_latest_of_each_shard_counts(tmp_path: Path, shards: int, size: int, seconds: float) -> None:
    recovery = tmp_path / "recovery"
    make_ready(recovery)
    with closing(sqlite3.connect(recovery / "part-0.sqlite3")) as connection, connection:
        connection.executemany(
            "insert into snaps (step_id, state_key, snap_epoch, ser_change) values ('f.node', ?, ?, ?)",
            [(str(shard), epoch, bytes(size)) for shard in range(shards) for epoch in (7, 8)],
        )
    assert epoch_for(recovery).total_seconds() == pytest.approx(seconds, abs=0.001)
