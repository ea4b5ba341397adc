"""How often a flow's states are snapshotted: often where that costs little, less often where there is much to write."""

import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

SHORTEST, LONGEST = 0.5, 5.0
PER_MIB = 0.14
_SIZE = """
select coalesce(sum(size), 0) from (select max(length(ser_change)) as size from snaps group by step_id, state_key)
"""


def epoch_for(recovery: Path) -> timedelta:
    """Return the time between two snapshots, by the size of the states in a recovery folder.

    Half a second, or what it takes for snapshots to cost less than a tenth: a second for the states of 100,000 keys,
    five at most. What is processed since the last one is processed again after a crash.
    """
    store = recovery / "part-0.sqlite3"
    if not store.exists():
        return timedelta(seconds=SHORTEST)
    with closing(sqlite3.connect(f"{store.resolve().as_uri()}?mode=ro", uri=True)) as connection:
        size = connection.execute(_SIZE).fetchone()[0]
    return timedelta(seconds=min(LONGEST, max(SHORTEST, PER_MIB * size / (1 << 20))))
