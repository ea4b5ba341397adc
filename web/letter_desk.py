"""What can be done about dead letters: put them in again where they failed, with other data, or drop them."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from engine.arrival import Arrival, Intake
from engine.dead_letters import DeadLetterStore
from engine.errors import EventFault, Unavailable
from engine.flow import Flow
from engine.letter import Letter, Selection
from engine.refusal import Refusal, busy
from engine.retry import RETRY, arrival_of, is_timer

MOST_AT_ONCE = 5_000
PAGE, COMMIT_BYTES = 500, 4 << 20
IN_AGAIN = "in the flow again already"
TIMER = "a timer failed: there is no event to put in again"
NO_OBJECT = "its data are no JSON object: give it data of its own"
LARGE = "more than the inbox takes"
Edit = Callable[[Letter], bytes | None]
Change = Callable[[DeadLetterStore, list[Letter], Counter[str]], Awaitable[int]]


class Board(Protocol):
    """Where the desk finds flows, their dead letters and their inboxes."""

    @property
    def definitions(self) -> Mapping[str, Flow]: ...
    def letters(self, flow: str) -> DeadLetterStore:
        """Return a flow's dead letters."""

    def intake(self, flow: str, source: str) -> Intake:
        """Return what writes to a flow's inbox."""


class Outcome(msgspec.Struct):
    """Of how many letters a call changed something, how many it passed over, by reason, and where the next goes on.

    `next` is the `after` of the next call; None: these were all.
    """

    changed: int = 0
    skipped: dict[str, int] = {}
    next: int | None = None


class Task(msgspec.Struct, frozen=True):
    """What somebody wants of some letters: those after the number `after`, at most `limit` of them."""

    flow: str
    chosen: Selection
    by: str
    after: int = 0
    limit: int = MOST_AT_ONCE


class LetterDesk:
    """Changes the dead letters of all flows; one change of a flow at a time. Raises Refusal 503 when it must wait."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._one: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def store(self, flow: str) -> DeadLetterStore:
        """Return the dead letters of a flow; raises Refusal 404."""
        if flow not in self._board.definitions:
            raise Refusal(404, "not_found", f"a flow that is deployed; '{flow}' is not")
        return self._board.letters(flow)

    def is_source(self, flow: str, node: str) -> bool:
        """Tell whether a node is a source of the flow as it runs now."""
        known = self._board.definitions[flow].nodes.get(node)
        return known is not None and known.section == "sources"

    async def retry(self, task: Task) -> Outcome:
        """Put letters in again: first into the inbox, then they are marked; `once` makes a repetition harmless."""
        intake = self._board.intake(task.flow, RETRY)

        async def change(store: DeadLetterStore, letters: list[Letter], skipped: Counter[str]) -> int:
            portions = list(_commits(_sorted_out(letters, _not_again, skipped)))
            return sum([await _put_in(intake, store, some, task.by, skipped) for some in portions])

        return await self._do(task, change)

    async def drop(self, task: Task) -> Outcome:
        """Mark letters as dropped: nothing is to be done about them."""

        async def change(store: DeadLetterStore, letters: list[Letter], skipped: Counter[str]) -> int:
            kept = _sorted_out(letters, _not_now, skipped)
            return await asyncio.to_thread(store.mark, kept, "dropped", task.by)

        return await self._do(task, change)

    async def fix(self, task: Task, edit: Edit) -> Outcome:
        """Store edited data beside the original; `edit` gives JSON, None to forget it, or EventFault to pass over."""

        async def change(store: DeadLetterStore, letters: list[Letter], skipped: Counter[str]) -> int:
            fixes = []
            for letter in _sorted_out(letters, _not_now, skipped):
                try:
                    fixes.append((letter, edit(letter)))
                except EventFault as fault:
                    skipped[fault.reason] += 1
            return await asyncio.to_thread(store.fix, fixes, task.by)

        return await self._do(task, change)

    async def _do(self, task: Task, change: Change) -> Outcome:
        store, skipped, outcome = self.store(task.flow), Counter[str](), Outcome()
        after, left = task.after, task.limit
        async with self._one[task.flow]:
            try:
                while left and (letters := await asyncio.to_thread(store.after, task.chosen, after, min(PAGE, left))):
                    outcome.changed += await change(store, letters, skipped)
                    after, left = letters[-1].number, left - len(letters)
            except Unavailable as fault:
                raise busy(str(fault)) from fault
        outcome.skipped, outcome.next = dict(skipped), after if not left else None
        return outcome


async def _put_in(
    intake: Intake, store: DeadLetterStore, letters: list[tuple[Letter, Arrival]], by: str, skipped: Counter[str]
) -> int:
    try:
        await intake.append([arrival for _, arrival in letters])
    except EventFault:
        skipped[LARGE] += len(letters)
        return 0
    await asyncio.to_thread(store.mark, [letter for letter, _ in letters], "retried", by)
    return len(letters)  # some may have failed again already: these are not marked


def _commits(letters: Sequence[Letter]) -> Iterator[list[tuple[Letter, Arrival]]]:
    """Yield letters in portions that the inbox takes at once, with what goes in for each."""
    some: list[tuple[Letter, Arrival]] = []
    size = 0
    for letter in letters:
        arrival = arrival_of(letter)
        if some and size + len(arrival.payload) > COMMIT_BYTES:
            yield some
            some, size = [], 0
        some.append((letter, arrival))
        size += len(arrival.payload)
    if some:
        yield some


def _not_now(letter: Letter) -> str:
    return IN_AGAIN if letter.state == "retried" else ""


def _not_again(letter: Letter) -> str:
    return _not_now(letter) or (TIMER if is_timer(letter) else "")


def _sorted_out(letters: list[Letter], why: Callable[[Letter], str], skipped: Counter[str]) -> list[Letter]:
    """Return the letters with which nothing is wrong, and count the others by what is."""
    reasons = [why(letter) for letter in letters]
    skipped.update(reason for reason in reasons if reason)
    return [letter for letter, reason in zip(letters, reasons, strict=True) if not reason]


def editing(data: Any = None, fields: Mapping[str, Any] | None = None) -> Edit:
    """Return what gives a letter other data, or sets some fields of those that it has."""

    def edit(letter: Letter) -> bytes:
        if fields is None:
            return msgspec.json.encode(data)
        try:
            found = msgspec.json.decode(letter.payload if letter.fixed is None else letter.fixed, type=dict[str, Any])
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            raise EventFault(NO_OBJECT) from None
        return msgspec.json.encode({**found, **fields})

    return edit


def named(store: DeadLetterStore, texts: Sequence[str]) -> list[Letter]:
    """Return the letters of events that are named by number, id or the beginning of one; raises Refusal 404 and 422."""
    found: dict[int, Letter] = {}
    for text in texts:
        letters = store.find(text)
        if not letters:
            raise Refusal(404, "not_found", f"a dead letter '{text}': there is none")
        if len(ids := sorted({letter.id.hex() for letter in letters})) > 1:
            raise Refusal(422, "invalid", f"'{text}' begins the ids of several events: {', '.join(ids[:5])}")
        found |= {letter.number: letter for letter in letters}
    return list(found.values())
