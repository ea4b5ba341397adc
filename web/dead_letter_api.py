"""The operations' API of dead letters: list, group by cause, show, fix, retry, drop."""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from engine.errors import Unavailable
from engine.event import microseconds, moment
from engine.letter import STATES, Letter, Selection
from engine.refusal import Refusal, busy
from web.api import OPERATOR, Call, Endpoint
from web.letter_desk import MOST_AT_ONCE, Edit, LetterDesk, Outcome, Task, editing, named

MOST_LISTED, MOST_IDS = 1_000, 1_000
SELECTING = ("node", "cause", "since", "until", "state")


class Choice(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Which letters: what is given must all hold; `all` where nothing is. Without ids only those in `state`.

    `ids` are numbers, ids of events or beginnings of them; times are ISO 8601.
    """

    ids: list[str] | None = None
    node: str | None = None
    cause: str | None = None
    since: str | None = None
    until: str | None = None
    state: str | None = None
    all: bool = False
    after: int = 0
    limit: int = MOST_AT_ONCE


class Fix(Choice, forbid_unknown_fields=True, kw_only=True):
    """Which letters, and their new data: whole (of one letter), some fields, or `original` to forget the edited."""

    data: Any = msgspec.UNSET
    set: dict[str, Any] | None = None
    original: bool = False


class LetterLine(msgspec.Struct):
    """A letter without its data; times are ISO 8601."""

    number: int
    id: str
    node: str
    time: str
    source: str
    topic: str
    reason: str
    cause: str
    version: str
    state: str
    attempt: int
    changed_at: str | None
    changed_by: str
    edited: bool


class LetterView(LetterLine, kw_only=True):
    """A letter with all that is known: its `data`, or as `text` what could not be decoded, and what was edited."""

    event_time: str
    key: str
    meta: Any
    values: dict[str, Any]
    data: Any = None
    text: str | None = None
    fixed: Any = None


def dead_letter_endpoints(desk: LetterDesk) -> list[Endpoint]:
    """Return the calls; reasons are for viewers, payloads for employees, changes for managers."""
    calls, path = DeadLetterCalls(desk), "/flows/{flow}/deadletters"
    return [
        Endpoint("GET", path, "viewer", calls.list),
        Endpoint("GET", f"{path}/causes", "viewer", calls.causes),
        Endpoint("POST", f"{path}/retry", "manager", calls.retry),
        Endpoint("POST", f"{path}/drop", "manager", calls.drop),
        Endpoint("POST", f"{path}/fix", "manager", calls.fix),
        Endpoint("GET", path + "/{id}", "employee", calls.show),
        Endpoint("GET", path + "/{id}/{node:path}", "employee", calls.show),
    ]


class DeadLetterCalls:
    """Implements the calls."""

    def __init__(self, desk: LetterDesk) -> None:
        self._desk = desk

    async def list(self, call: Call) -> dict[str, Any]:
        """Return letters, newest first, with how many there are; `next` is the `before` of the next page."""
        store, chosen = self._desk.store(call.path["flow"]), selection(call.query)
        limit, before = call.number("limit", 100, MOST_LISTED), call.number("before", 0, 1 << 62) or None
        letters = await _reading(store.rows, chosen, limit, before)
        more = letters[-1].number if limit and len(letters) == limit else None
        total, states = await _reading(store.count, chosen), await _reading(store.counts)
        return {"letters": [line(letter) for letter in letters], "next": more, "total": total, "states": states}

    async def causes(self, call: Call) -> dict[str, Any]:
        """Return the letters grouped by node and cause, how many are in each state, and since when there is no room."""
        store = self._desk.store(call.path["flow"])
        found = await _reading(store.causes, selection(call.query, "new"))
        causes = [msgspec.structs.asdict(cause) | {"latest": iso(cause.latest)} for cause in found]
        full = await _reading(store.full_since)
        return {"causes": causes, "states": await _reading(store.counts), "full_since": full and iso(full)}

    async def show(self, call: Call) -> dict[str, Any]:
        """Return the letters of an event, or that at one node, with everything."""
        store, node = self._desk.store(call.path["flow"]), call.path.get("node")
        found = await _reading(named, store, [call.path["id"]])
        found = [letter for letter in found if node in (None, letter.node)]
        if not found:
            raise Refusal(404, "not_found", f"a dead letter '{call.path['id']}' at '{node}': there is none")
        return {"letters": [view(letter) for letter in found]}

    async def retry(self, call: Call) -> Outcome:
        """Put letters into the flow again, at the node where they failed."""
        return await self._desk.retry(await self._task(call, await call.body(Choice)))

    async def drop(self, call: Call) -> Outcome:
        """Mark letters as dropped."""
        return await self._desk.drop(await self._task(call, await call.body(Choice)))

    async def fix(self, call: Call) -> Outcome:
        """Store edited data for the next retry."""
        wanted = await call.body(Fix)
        task = await self._task(call, wanted)
        given = (wanted.data is not msgspec.UNSET) + (wanted.set is not None) + wanted.original
        if given != 1:
            raise Refusal(422, "invalid", "exactly one of data, set, original")
        if wanted.data is not msgspec.UNSET:
            await self._check_data(task, wanted.data)
        return await self._desk.fix(task, _edit(wanted))

    async def _check_data(self, task: Task, data: Any) -> None:
        letters = await _reading(self._desk.store(task.flow).after, task.chosen, 0, 2)
        if len(letters) != 1:
            raise Refusal(422, "invalid", "data are for one letter: give its id, and its node where it has several")
        if not isinstance(data, dict) and not self._desk.is_source(task.flow, letters[0].node):
            raise Refusal(422, "invalid", "data: a JSON object")

    async def _task(self, call: Call, choice: Choice) -> Task:
        flow = call.path["flow"]
        given = {name: value for name in SELECTING if (value := getattr(choice, name))}
        if not given and not choice.ids and not choice.all:
            raise Refusal(422, "invalid", "which letters: ids, node, cause, since, until or state; or all")
        chosen = selection(given, None if choice.ids else "new")
        if choice.ids:
            if len(choice.ids) > MOST_IDS:
                raise Refusal(422, "invalid", f"ids: at most {MOST_IDS}; got {len(choice.ids)}")
            letters = await _reading(named, self._desk.store(flow), choice.ids)
            chosen = msgspec.structs.replace(chosen, numbers=tuple(letter.number for letter in letters))
        limit = max(1, min(choice.limit, MOST_AT_ONCE))
        return Task(flow, chosen, author(call), choice.after, limit)


def author(call: Call) -> str:
    """Return who makes a call: the account, or on the control socket whom the command names."""
    return call.query.get("author", "") or OPERATOR if "account" not in call.request.scope else call.author


def selection(given: Mapping[str, str], state: str | None = None) -> Selection:
    """Return what a query string or a body selects, by default letters in `state`; raises Refusal 422."""
    state = given.get("state", state)
    if state is not None and state not in STATES:
        raise Refusal(422, "invalid_parameter", f"state: one of {', '.join(STATES)}; got '{state}'")
    return Selection(
        node=given.get("node"), cause=given.get("cause"), since=_time(given, "since"), until=_time(given, "until"),
        states=None if state is None else (state,),
    )  # fmt: skip


def _time(given: Mapping[str, str], name: str) -> int | None:
    if name not in given:
        return None
    try:
        return microseconds(datetime.fromisoformat(given[name]))
    except (ValueError, OverflowError):
        raise Refusal(422, "invalid_parameter", f"{name}: an ISO 8601 time; got '{given[name][:40]}'") from None


def _edit(wanted: Fix) -> Edit:
    return (lambda letter: None) if wanted.original else editing(wanted.data, wanted.set)


async def _reading(call: Any, *arguments: Any) -> Any:
    """Read from a store on a thread, since a large one takes its time; raises Refusal 503 when it cannot be read."""
    try:
        return await asyncio.to_thread(call, *arguments)
    except Unavailable as fault:
        raise busy(str(fault)) from fault


def iso(time: int) -> str:
    """Return microseconds since 1970 as ISO 8601."""
    try:
        return moment(time).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError):
        return f"{time} µs"


def line(letter: Letter) -> LetterLine:
    """Return a letter without its data."""
    return LetterLine(**_fields(letter))


def view(letter: Letter) -> LetterView:
    """Return a letter with everything."""
    found = LetterView(
        **_fields(letter), event_time=iso(letter.event_time), key=letter.key, meta=letter.meta, values=letter.details,
        fixed=None if letter.fixed is None else msgspec.json.decode(letter.fixed),
    )  # fmt: skip
    try:
        found.data = msgspec.json.decode(letter.payload)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        found.text = letter.payload.decode(errors="replace")
    return found


def _fields(letter: Letter) -> dict[str, Any]:
    same = {name: getattr(letter, name) for name in LetterLine.__struct_fields__ if hasattr(letter, name)}
    changed = iso(letter.changed_at) if letter.changed_at else None
    return same | {
        "id": letter.id.hex(), "time": iso(letter.time), "changed_at": changed, "edited": letter.fixed is not None,
    }  # fmt: skip
