"""The recovery folder of a flow: Bytewax's store and, beside it, the fingerprints of the states in it.

Bytewax finds states by step name only: a step that has changed gets what the old one has left, or nothing, without an
error. So each store carries the fingerprints of the nodes that wrote it, and a changed flow gets an edited copy.
"""

import os
import pickle
import shutil
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from engine.errors import EnvironmentFault
from engine.fingerprints import Fingerprint

STORE, STATES = "part-0.sqlite3", "states.json"
CHOICES = (
    "give the node its old form back, name it anew with `was:` where it is only renamed, "
    "or give its state up with --reset-state"
)


class Edit(msgspec.Struct):
    """What becomes of the states of a store: nodes that are renamed (old to new), and those that begin anew."""

    renamed: dict[str, str] = {}
    reset: frozenset[str] = frozenset()


def read_states(folder: Path) -> dict[str, Fingerprint] | None:
    """Return the fingerprints of the states in a recovery folder; None where none were written."""
    path = folder / STATES
    return msgspec.json.decode(path.read_bytes(), type=dict[str, Fingerprint]) if path.exists() else None


def write_states(folder: Path, states: Mapping[str, Fingerprint]) -> None:
    """Write the fingerprints, whole or not at all."""
    part = folder / f"{STATES}.part"
    with part.open("wb") as file:
        file.write(msgspec.json.encode(states))
        file.flush()
        os.fsync(file.fileno())
    part.replace(folder / STATES)


def check_states(folder: Path, states: Mapping[str, Fingerprint]) -> None:
    """Raise EnvironmentFault where a state would be read by a node that it does not fit; else remember the nodes."""
    found = read_states(folder)
    for name, was in (found or {}).items():
        if name in states and (difference := was.difference(states[name])):
            raise EnvironmentFault(f"node '{name}': its state is of another form ({difference}): {CHOICES}")
    if found != dict(states):
        write_states(folder, states)


def key_counts(folder: Path, flow: str) -> dict[str, int]:
    """Return for each node that has a state how many keys it has; one that forgot all of them is left out."""
    found: dict[str, int] = {}
    for step, change in _latest(folder, flow):
        if step in ("feed", "outlet"):
            continue
        keys = msgspec.msgpack.decode(pickle.loads(change))[1]  # noqa: S301 - our own file
        if keys:
            found[step] = found.get(step, 0) + len(keys)
    return found


def _latest(folder: Path, flow: str) -> list[tuple[str, bytes]]:
    """Return (step, pickled state) of the latest snapshot of each state of the store."""
    store = folder / STORE
    if not store.exists():
        return []
    query = """select step_id, ser_change from snaps as s where step_id like ? and ser_change is not null and
        snap_epoch = (select max(snap_epoch) from snaps where step_id = s.step_id and state_key = s.state_key)"""
    with closing(sqlite3.connect(f"{store.resolve().as_uri()}?mode=ro", uri=True)) as connection:
        rows = connection.execute(query, [f"{flow}.%"]).fetchall()
    return [(step.removeprefix(f"{flow}."), bytes(change)) for step, change in rows]


def copy_edited(folder: Path, to: Path, flow: str, edit: Edit, states: Mapping[str, Fingerprint]) -> None:
    """Make the recovery folder of a new version: a copy of the old one's with its states renamed and reset.

    The old worker has to be stopped. The copy is durable on return; what was at `to` is replaced.
    """
    shutil.rmtree(to, ignore_errors=True)
    if not (folder / STORE).exists():
        return
    to.mkdir(parents=True)
    with closing(sqlite3.connect(folder / STORE)) as old, closing(sqlite3.connect(to / STORE)) as new:
        old.backup(new)
        new.execute("pragma synchronous=full")
        with new:
            _edit(new, flow, edit)
    write_states(to, states)


def _edit(connection: sqlite3.Connection, flow: str, edit: Edit) -> None:
    for name in edit.reset:
        connection.execute("delete from snaps where step_id = ?", [f"{flow}.{name}"])
    renamed = list(edit.renamed.items())
    for old, _ in renamed:  # in two steps, since two nodes may swap their names
        connection.execute("update snaps set step_id = ? where step_id = ?", [f"{flow}.!{old}", f"{flow}.{old}"])
    for old, new in renamed:
        connection.execute("delete from snaps where step_id = ?", [f"{flow}.{new}"])
        connection.execute("update snaps set step_id = ? where step_id = ?", [f"{flow}.{new}", f"{flow}.!{old}"])
    _edit_positions(connection, flow, edit)


def _edit_positions(connection: sqlite3.Connection, flow: str, edit: Edit) -> None:
    """Rename and reset the positions of the sources that the worker reads itself."""
    query = "select state_key, snap_epoch, ser_change from snaps where step_id = ? and ser_change is not null"
    for key, epoch, change in connection.execute(query, [f"{flow}.feed"]).fetchall():
        position: dict[str, Any] = msgspec.msgpack.decode(pickle.loads(change))  # noqa: S301 - our own file
        pulled = position.get("pulled") or {}
        kept = {name: value for name, value in pulled.items() if name not in edit.reset}
        position["pulled"] = {edit.renamed.get(name, name): value for name, value in kept.items()}
        if position["pulled"] != pulled:
            stored = pickle.dumps(msgspec.msgpack.encode(position))
            update = "update snaps set ser_change = ? where step_id = ? and state_key = ? and snap_epoch = ?"
            connection.execute(update, [stored, f"{flow}.feed", key, epoch])


def pulled_sources(folder: Path, flow: str) -> set[str]:
    """Return the sources whose positions a store holds."""
    found: set[str] = set()
    for step, change in _latest(folder, flow):
        if step == "feed":
            found |= (msgspec.msgpack.decode(pickle.loads(change)).get("pulled") or {}).keys()  # noqa: S301
    return found


def sweep(flow_folder: Path, keep: str) -> None:
    """Remove recovery folders that no record names: what an interrupted deploy has left."""
    for path in flow_folder.glob("recovery*"):
        if path.is_dir() and path.name != keep:
            shutil.rmtree(path, ignore_errors=True)


def next_folder(names: Iterable[str]) -> str:
    """Return the name of a new recovery folder beside those that are there."""
    numbers = [int(name.rpartition(".")[2]) for name in names if name.rpartition(".")[2].isdigit()]
    return f"recovery.{max(numbers, default=0) + 1}"
