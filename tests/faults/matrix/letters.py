"""Compare the dead letters of a flow with the rubbish that was acknowledged."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing

from tests.faults.matrix.check import Outcome
from tests.faults.matrix.load import Final
from tests.faults.matrix.rig import Rig
from tests.process import wait_until


def kept(rig: Rig) -> Counter[str]:
    """Return the payloads of the dead letters, as they came."""
    file = rig.millstream.data / "flows" / "matrix" / "deadletters.db"
    if not file.exists():
        return Counter()
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=30)) as store:
        return Counter(bytes(payload).decode("latin-1") for (payload,) in store.execute("SELECT payload FROM dead"))


def compare_letters(found: Outcome, rig: Rig, final: Final) -> None:
    """Note whether exactly the rubbish is there."""
    sent = Counter(final.refused)
    try:
        wait_until(lambda: kept(rig).total() >= sent.total(), "all rubbish is a dead letter", 20)
    except AssertionError as fault:
        found.notes.append(str(fault))
    there = kept(rig)
    missing, more = sent - there, there - sent
    found.dead = there.total()
    found.notes.append(f"{there.total()} dead letters of {sent.total()} pieces of rubbish")
    found.must(sent, "some rubbish was sent")
    found.must(not missing, f"{missing.total()} are no dead letters: {list(missing)[:2]}")
    found.must(not more, f"{more.total()} dead letters are not what was sent: {list(more)[:2]}")
