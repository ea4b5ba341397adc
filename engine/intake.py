"""The gateway's side of a pushed source: its way into the inbox, and the desk where replies are waited for."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

from engine.arrival import Arrival, Reply
from engine.arrivals import Arrivals
from engine.inbox import InboxWriter
from engine.inbox_log import Submission
from engine.settings import MqttPlace

KEPT = 10_000
KEPT_BYTES = 64 << 20


class ReplyDesk:
    """Brings a flow's answers to those who wait, any number for each. On the loop only.

    An answer can come before anybody waits: between `expect()` and `expected(ids)` every answer is kept, after that
    those to `ids`, until `wait` asks for them. Answers to requests with a key may be asked for again: they stay, and
    are put into the inbox. At most `kept` of each; the oldest give way.
    """

    def __init__(self, writer: InboxWriter | None = None, kept: int = KEPT) -> None:
        self._writer, self._kept = writer, kept
        self._expecting = 0
        self._expected: OrderedDict[bytes, None] = OrderedDict()
        self._keyed: OrderedDict[bytes, None] = OrderedDict()
        self._early: OrderedDict[bytes, Reply] = OrderedDict()
        self._recent = RecentReplies(kept, KEPT_BYTES)
        self._waiting: dict[bytes, list[asyncio.Future[Reply]]] = {}
        self._storing: set[asyncio.Future[None]] = set()

    def expect(self) -> None:
        """Keep answers from now on: their ids will be known soon."""
        self._expecting += 1

    def expected(self, ids: Iterable[bytes], *, keyed: bool = False) -> None:
        """End what `expect` began: answers to these ids will be waited for; of `keyed` ones more than once."""
        self._expecting -= 1
        entries = self._keyed if keyed else self._expected
        for event_id in ids:
            entries[event_id] = None
            if keyed and (early := self._early.pop(event_id, None)):
                self._remember(event_id, early)
        _shrink(entries, self._kept)

    def recall(self, event_id: bytes, reply: Reply) -> None:
        """Take an answer that was given before, for whoever asks again."""
        self._recent.put(event_id, reply)

    def answer(self, event_id: bytes, status: int, body: bytes) -> bool:
        """Hand in an answer; False when nobody waits for it (any more). The first answer to an id counts."""
        reply = Reply(status, body)
        waiting = [future for future in self._waiting.get(event_id, ()) if not future.done()]
        for future in waiting:
            future.set_result(reply)
        if event_id in self._keyed:
            self._remember(event_id, reply)
            return True
        if event_id in self._waiting:
            return True
        if not self._expecting and event_id not in self._expected:
            self._store(event_id, reply)
            return False
        self._early.setdefault(event_id, reply)
        _shrink(self._early, self._kept)
        return True

    def _remember(self, event_id: bytes, reply: Reply) -> None:
        if self._recent.put(event_id, reply):
            self._store(event_id, reply)

    def _store(self, event_id: bytes, reply: Reply) -> None:
        """Put an answer into the inbox, which takes it only where the request had a key."""
        if self._writer and event_id.startswith(self._writer.prefix):
            future = self._writer.keep(int.from_bytes(event_id[8:], "big"), reply)
            self._storing.add(future)
            future.add_done_callback(self._storing.discard)

    async def stored(self) -> None:
        """Return when the answers that were handed in are in the inbox, as far as they go there."""
        if self._storing:
            await asyncio.wait(set(self._storing))

    async def wait(self, event_id: bytes, timeout: float) -> Reply:  # noqa: ASYNC109 - as Intake.reply
        """Return the answer to an event; raises TimeoutError after `timeout` seconds."""
        self._expected.pop(event_id, None)
        if found := self._early.pop(event_id, None) or self._recent.get(event_id):
            return found
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(event_id, []).append(future)
        try:
            async with asyncio.timeout(timeout):
                return await future
        finally:
            self._waiting[event_id].remove(future)
            if not self._waiting[event_id]:
                del self._waiting[event_id]


class RecentReplies:
    """The latest answers by event id, bounded in number and bytes."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most, self._most_bytes, self._bytes = most, most_bytes, 0
        self._replies: OrderedDict[bytes, Reply] = OrderedDict()

    def get(self, event_id: bytes) -> Reply | None:
        """Return an answer, if it is still there."""
        return self._replies.get(event_id)

    def put(self, event_id: bytes, reply: Reply) -> bool:
        """Keep an answer; False where there is one already, which stays."""
        if event_id in self._replies:
            return False
        self._replies[event_id] = reply
        self._bytes += len(reply.body)
        while len(self._replies) > self._most or self._bytes > self._most_bytes:
            self._bytes -= len(self._replies.popitem(last=False)[1].body)
        return True


def _shrink(entries: "OrderedDict[bytes, Reply] | OrderedDict[bytes, None]", limit: int) -> None:
    while len(entries) > limit:
        entries.popitem(last=False)


class FlowIntake:
    """The Intake of one source of one flow; `on_state(flow, source, state, detail)` hears how the source is."""

    def __init__(
        self,
        writer: InboxWriter,
        desk: ReplyDesk,
        flow: str,
        source: str,
        mqtt: MqttPlace,
        on_state: Callable[[str, str, str, str], None] = lambda flow, source, state, detail: None,
    ) -> None:
        self.flow, self.source, self.mqtt = flow, source, mqtt
        self._writer, self._desk, self._on_state = writer, desk, on_state

    async def store(self, arrivals: Arrivals) -> None:
        """Return once all are committed; raises as `append`."""
        await self._commit(arrivals)

    async def append(self, arrivals: Arrivals | Sequence[Arrival], *, expect_reply: bool = False) -> list[bytes]:
        """Return the event ids once all are committed; with `expect_reply` their answers are kept for `reply`.

        Raises Unavailable when the inbox is full or cannot write, EventFault for what can never be stored, KeyReused.
        When cancelled, the arrivals may still be committed.
        """
        arrivals = Arrivals.of(arrivals)
        if not arrivals:
            return []
        if not expect_reply:
            return self._ids(await self._commit(arrivals))
        self._desk.expect()
        ids: list[bytes] = []
        try:
            submission = await self._commit(arrivals)
            ids = self._ids(submission)
            if submission.answer:
                self._desk.recall(ids[0], submission.answer)
        finally:
            self._desk.expected(ids, keyed=bool(arrivals.keys))
        return ids

    def _ids(self, submission: Submission) -> list[bytes]:
        prefix = self._writer.prefix
        return [prefix + offset.to_bytes(8, "big") for offset in submission.offsets()]

    async def _commit(self, arrivals: Arrivals) -> Submission:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(_first: int, fault: BaseException | None) -> None:
            if future.cancelled():
                return
            if fault:
                future.set_exception(fault)
            else:
                future.set_result(None)

        submission = self._writer.submit(self.source, arrivals, done)
        await future
        return submission

    def submit(self, arrivals: Arrivals | Sequence[Arrival], done: Callable[[BaseException | None], None]) -> None:
        """Append without a task: `done` is called on the loop after the commit, with the error or None.

        Raises Unavailable at once when the inbox is full.
        """
        self._writer.submit(self.source, arrivals, lambda _first, fault: done(fault))

    def acknowledged(self, packets: Iterable[int]) -> None:
        """Tell that the broker has the acknowledgements of these MQTT packets, so that their ids may come again."""
        self._writer.acknowledged(self.source, packets)

    async def reply(self, event_id: bytes, timeout: float) -> Reply:  # noqa: ASYNC109 - the protocol of Intake
        """Return what the flow answers to the event; raises TimeoutError after `timeout` seconds."""
        return await self._desk.wait(event_id, timeout)

    def state(self, state: str, detail: str = "") -> None:
        """Tell operations how the source is: connecting, connected, refused, stopped."""
        self._on_state(self.flow, self.source, state, detail)
