"""The gateway's side of a pushed source: its way into the inbox, and the desk where replies are waited for."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

from engine.component import Arrival, Reply
from engine.inbox import InboxWriter
from engine.settings import MqttPlace

KEPT = 10_000


class ReplyDesk:
    """Brings a flow's answers to those who wait. On the loop only.

    An answer can come before anybody waits: between `expect()` and `expected(ids)` every answer is kept, after that
    those to `ids`, until `wait` asks for them. At most `kept` of each; the oldest give way.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._expecting = 0
        self._expected: OrderedDict[bytes, None] = OrderedDict()
        self._early: OrderedDict[bytes, Reply] = OrderedDict()
        self._waiting: dict[bytes, asyncio.Future[Reply]] = {}

    def expect(self) -> None:
        """Keep answers from now on: their ids will be known soon."""
        self._expecting += 1

    def expected(self, ids: Iterable[bytes]) -> None:
        """End what `expect` began: answers to these ids will be waited for."""
        self._expecting -= 1
        for event_id in ids:
            self._expected[event_id] = None
        _shrink(self._expected, self._kept)

    def answer(self, event_id: bytes, status: int, body: bytes) -> bool:
        """Hand in an answer; False when nobody waits for it (any more). The first answer to an id counts."""
        future = self._waiting.get(event_id)
        if future is not None:
            if not future.done():
                future.set_result(Reply(status, body))
            return True
        if not self._expecting and event_id not in self._expected:
            return False
        self._early.setdefault(event_id, Reply(status, body))
        _shrink(self._early, self._kept)
        return True

    async def wait(self, event_id: bytes, timeout: float) -> Reply:  # noqa: ASYNC109 - as Intake.reply
        """Return the answer to an event; raises TimeoutError after `timeout` seconds. One waits for each id."""
        self._expected.pop(event_id, None)
        if early := self._early.pop(event_id, None):
            return early
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[event_id] = future
        try:
            async with asyncio.timeout(timeout):
                return await future
        finally:
            del self._waiting[event_id]


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

    async def append(self, arrivals: Sequence[Arrival], *, expect_reply: bool = False) -> list[bytes]:
        """Return the event ids once all are committed; with `expect_reply` their answers are kept for `reply`.

        Raises Unavailable when the inbox is full or cannot write, EventFault for what can never be stored. When
        cancelled, the arrivals may still be committed.
        """
        if not arrivals:
            return []
        if not expect_reply:
            return await self._commit(arrivals)
        self._desk.expect()
        ids: list[bytes] = []
        try:
            ids = await self._commit(arrivals)
        finally:
            self._desk.expected(ids)
        return ids

    async def _commit(self, arrivals: Sequence[Arrival]) -> list[bytes]:
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
        prefix = self._writer.prefix
        return [prefix + offset.to_bytes(8, "big") for offset in submission.offsets()]

    def submit(self, arrivals: Sequence[Arrival], done: Callable[[BaseException | None], None]) -> None:
        """Append without a task: `done` is called on the loop after the commit, with the error or None.

        Raises Unavailable at once when the inbox is full.
        """
        self._writer.submit(self.source, arrivals, lambda _first, fault: done(fault))

    def acknowledged(self, packets: Iterable[int]) -> None:
        """Tell that the acknowledgements of these MQTT packets were written, so that their ids may come again."""
        self._writer.acknowledged(self.source, packets)

    async def reply(self, event_id: bytes, timeout: float) -> Reply:  # noqa: ASYNC109 - the protocol of Intake
        """Return what the flow answers to the event; raises TimeoutError after `timeout` seconds."""
        return await self._desk.wait(event_id, timeout)

    def state(self, state: str, detail: str = "") -> None:
        """Tell operations how the source is: connecting, connected, refused, stopped."""
        self._on_state(self.flow, self.source, state, detail)
