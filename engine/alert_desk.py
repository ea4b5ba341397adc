"""What comes with alerts: their ids, the table that keeps them, the query that shows them, and who acts on them."""

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any
from zlib import crc32

from engine.alert_machine import Act, Watch
from engine.errors import EventFault
from engine.event import Event, derived_id
from engine.expression_check import Type
from engine.keyed import SHARDS
from engine.problem import Problem
from engine.quantities import parse_duration

if TYPE_CHECKING:
    from engine.flow import Node

TEXT, TIME, NUMBER = Type("text"), Type("time"), Type("number")
_MAYBE_TIME, _MAYBE_TEXT = Type("time", null=True), Type("text", null=True)
FIELDS = {
    "alert": TEXT, "name": TEXT, "key": TEXT, "change": TEXT, "state": TEXT, "severity": TEXT, "since": TIME,
    "fired_at": TIME, "at": TIME, "cleared_at": _MAYBE_TIME, "acknowledged_at": _MAYBE_TIME,
    "acknowledged_by": _MAYBE_TEXT, "muted_until": _MAYBE_TIME, "episode": NUMBER, "number": NUMBER, "count": NUMBER,
    "reading": Type("dict"), "message": _MAYBE_TEXT,
}  # fmt: skip
TABLE = {
    "id": "serial", "flow": "text(63)", "alert": "text(640)", "name": "text(63)", "key": "text(150)",
    "state": "text(12)", "severity": "text(40)", "since": "time", "fired_at": "time", "at": "time",
    "cleared_at": "time", "acknowledged_at": "time", "acknowledged_by": "text(150)", "muted_until": "time",
    "episode": "int", "number": "int", "count": "int", "reading": "json", "message": "text(1000)",
    "unique": [["flow", "alert"]], "index": [["state"], ["name"], ["key"], ["severity"], ["fired_at"]],
}  # fmt: skip
DOES = ("acknowledge", "clear", "mute")
_PLAIN = re.compile(r"[A-Za-z0-9_.]*")
_ID = re.compile(r"([0-9a-f]{16})-(~?)([A-Za-z0-9_.=-]*)")


def _in_each_shard() -> tuple[str, ...]:
    found: dict[int, str] = {}
    number = 0
    while len(found) < len(SHARDS):
        key = f"\0every {number}"
        found.setdefault(crc32(key.encode()) % len(SHARDS), key)
        number += 1
    return tuple(found[shard] for shard in range(len(SHARDS)))


EVERY_KEY = _in_each_shard()
"""Keys that stand for every other key of their shard, one for each shard; no device has one."""


def alert_id(node: str, key: str, episode: str) -> str:
    """Return the id of an alert: a hash of node, key and episode, and the key, by which its state is found."""
    readable = key if _PLAIN.fullmatch(key) else "~" + base64.urlsafe_b64encode(key.encode()).decode()
    return f"{derived_id(node, key, episode)[:8].hex()}-{readable}"


def alert_key(text: str) -> str | None:
    """Return the key of the alert with an id; None where that is no id."""
    found = _ID.fullmatch(text)
    if found is None:
        return None
    if not found[2]:
        return found[3]
    try:
        return base64.urlsafe_b64decode(found[3]).decode()
    except (binascii.Error, ValueError):
        return None


def desk_path(path: str, flow: str) -> str:
    """Return where alerts are served."""
    return path or f"/flows/{flow}/alerts"


def desk_name(path: str) -> str:
    """Return the name of the source of what people do about the alerts that are served at a path."""
    return "_".join(["alerts", *re.findall(r"[a-z0-9]+", path.lower()), "by_hand"])


def desk(flow: str, table: str, path: str, allow: str, handle: str) -> dict[str, dict[str, Any]]:
    """Return the table, the query and the source that come with alert nodes of a flow, as in YAML."""
    at, source = desk_path(path, flow), desk_name(path)
    query = {
        "get": at, "allow": allow, "table": table, "where": {"flow": flow}, "time": "fired_at", "newest": "id",
        "filters": ["state", "name", "key", "severity", "alert"], "about": "Alerts, the newest first",
    }  # fmt: skip
    about = "What people do about alerts: acknowledge, clear, mute"
    return {
        "tables": {table: TABLE},
        "queries": {source.removesuffix("_by_hand"): query},
        "sources": {source: {"alerts": {"post": f"{at}/{{do}}", "allow": handle}, "key": "key", "about": about}},
    }


def differences(mine: Any, others: "Iterable[Node]") -> Iterator[Problem]:
    """Yield the options in which alert nodes that are served at one path differ."""
    for other in others:
        theirs: Any = other.component
        for option in ("table", "allow", "handle") if mine.path == theirs.path and theirs.table != "none" else ():
            here, there = getattr(mine, option), getattr(theirs, option)
            if here != there:
                yield Problem(
                    "option-value", option, f"as in '{other.name}', {there}, or a path of its own; got {here}"
                )


def row_sink(name: str, flow: str, table: str) -> dict[str, dict[str, Any]]:
    """Return the sink that keeps the row of each alert of a node."""
    columns = {name: name for name in ("cleared_at", "acknowledged_at", "muted_until")}  # a missing time would be now
    sql = {"table": table, "mode": "upsert", "by": ["flow", "alert"], "columns": {"flow": f'"{flow}"', **columns}}
    return {f"{name.replace('/', '_')}_{table}": {"from": [name, f"{name}.muted"], "sql": sql}}


def act_of(event: Event) -> Act:
    """Return what somebody does; raises EventFault for what is no act."""
    data, meta = event.data, event.meta or {}
    do = data.get("do")
    if do not in DOES:
        raise EventFault(f"do: one of {', '.join(DOES)}; got {do!r}"[:200])
    try:
        length = parse_duration(data.get("for")) if do == "mute" else 0
    except ValueError:
        raise EventFault(f"for: a duration like 1h; got {data.get('for')!r}"[:200]) from None
    return Act(event.arrival, do, str(meta.get("account") or ""), str(data.get("alert") or ""), length)


def spread(
    states: dict[str, Watch], events: Sequence[Event], hands: str, one: Callable[[Event], None]
) -> Iterable[str]:
    """Take events, and let what is done about every key reach each key of a shard, and those that come later.

    `hands` is the source of what people do. Returns the keys that begin muted.
    """
    every = next((key for key in EVERY_KEY if key in states), "")
    new: list[str] = []
    for event in events:
        if event.source == hands and event.key in EVERY_KEY:
            every = event.key
            for key in [key for key in states if key != every]:
                reached = event.derive(event.data)
                reached.key = key
                one(reached)
        elif every and event.key not in states and (muted := states.get(every)):
            states[event.key] = Watch({}, muted=muted.muted, heard=event.arrival, acts=list(muted.acts))
            new.append(event.key)
        one(event)
    return new
