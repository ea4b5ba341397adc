"""Run a plan without Bytewax, on a virtual clock: what flow tests, examples and property tests use."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from engine.block import Block
from engine.component import Sink
from engine.dead import DeadLetter
from engine.decode import received
from engine.event import Event, stream_prefix
from engine.flow import Flow, Input, Node
from engine.gap import Gap
from engine.given import Answers, GivenAnswer
from engine.keyed import SHARDS, Shard
from engine.ledger import AT, Book, Ledger, ledger_of
from engine.ordered import Ordered
from engine.outputs import COUNTS, DEAD
from engine.outstanding import Outstanding
from engine.plan import Plan, Run

TAP = "tap "


class Sent(msgspec.Struct, frozen=True):
    """One message of a run: when it arrives (microseconds), at which source, with which topic, payload and meta."""

    at: int
    source: str
    payload: bytes
    topic: str = ""
    meta: dict[str, Any] | None = None


class Harness:
    """One run of a flow. `out` holds the events that reached each sink or tap, `dead` the dead letters, in order.

    `counted` is how often what was counted (engine/ledger_accounts.py has the names). `answers` are those to the nodes
    that ask somebody outside, by node; nobody else answers.
    """

    def __init__(
        self, flow: Flow, stream: str = "test", taps: Iterable[str] = (),
        answers: Mapping[str, Sequence[GivenAnswer]] | None = None,
    ) -> None:  # fmt: skip
        flow = tapped(flow, taps)
        self._answers = Answers(answers)
        self.plan = Plan(flow)
        self.live = flow.live
        self.live.clear()
        self.prefix = stream_prefix(stream)
        self.out: dict[str, list[Event]] = defaultdict(list)
        self.dead: list[DeadLetter] = []
        self.counted: Counter[str] = Counter()
        self.head = 0
        self.gaps: list[Gap] = []
        self._book = Book(flow)
        self._start({})

    def _start(self, snapshots: dict[tuple[str, str], bytes]) -> None:
        self.run = Run(self.plan, Outstanding(self._answers.asker))
        self.run.clock.learn(self.gaps)
        self.shards: dict[str, dict[str, Shard | Ordered]] = {}
        for keyed in self.plan.keyed:
            name = keyed.node.name
            self.shards[name] = {s: self.run.shard(keyed, s, snapshots.get((name, s))) for s in SHARDS}
        for name in self.plan.asking:
            self.run.outstanding.tell(name)
        self.fetch()

    def send(self, messages: list[Sent]) -> None:
        """Let messages arrive together, as one commit of the inbox."""
        if not messages:
            return
        time = messages[-1].at
        self.tick(min(m.at for m in messages) - 1)
        self.read([block_of(messages, self.head + 1, time)])
        self.tick(time)

    def read(self, blocks: list[Block]) -> None:
        """Read several commits of the inbox at once, as a worker does that has fallen behind."""
        self.head = blocks[-1].last
        counts = (COUNTS, [(AT, (blocks[0].first - 1, self.head)), *received(blocks)])
        self._route(self.plan.run_sources([*self.plan.records(blocks, self.prefix), counts]))
        if self.plan.ordered:
            self.mark(blocks[-1].time)

    def put(self, at: int, table: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Let rows of a live table change at a time: the columns that are named; 0: they have been so all the time."""
        for row in rows:
            self.live.put(at, table, row)

    def remove(self, at: int, table: str, keys: Iterable[Any]) -> None:
        """Let rows of a live table go at a time."""
        self.live.learn(at, {table: dict.fromkeys(keys)})

    def tick(self, now: int) -> None:
        """Let time pass where nothing arrives; nothing is told where nothing waits for it, as in the feed."""
        now = next((gap.start for gap in self.gaps if gap.start < now < gap.end), now)
        due = self.run.clock.next()
        if due is not None and due <= now:
            self.mark(now)

    def mark(self, now: int) -> None:
        """Tell every node that all which arrived up to `now` has been sent."""
        self._route(list(self.plan.marks(self.plan.source, now)))

    def fetch(self) -> None:
        """Let what waits outside go on as far as answers have come, as the feed does."""
        for ready in self.run.outstanding.ready():
            self._route(self.run.time_or_answers(ready))

    def ledger(self) -> Ledger:
        """Return what became of all that was read."""
        sinks = self.plan.flow.section("sinks")
        return ledger_of(
            self._book.cut({node.name: len(self.out[node.name.removeprefix(TAP)]) for node in sinks}), self.head
        )

    def unanswered(self) -> dict[str, int]:
        """Return how often each node asked for an answer that was not given."""
        return self._answers.missed()

    def restart(self) -> None:
        """Stop with a snapshot and start from it."""
        self.resume(self.snapshot())

    def snapshot(self) -> dict[tuple[str, str], bytes]:
        """Return the states of all shards by node and shard."""
        return {
            (name, s): bytes(shard.snapshot()) for name, shards in self.shards.items() for s, shard in shards.items()
        }

    def resume(self, snapshot: dict[tuple[str, str], bytes]) -> None:
        """Start from a snapshot."""
        self._start(snapshot)

    def down(self, start: int, end: int) -> None:
        """Tell that the gateway is down from `start` to `end`: nothing arrives between."""
        self.gaps.append(Gap(start, end))
        self.run.clock.learn(self.gaps)

    def _route(self, items: list[tuple[str, str, Any]]) -> None:
        waiting: dict[str, list[tuple[str, Any]]] = defaultdict(list)
        self._deliver(items, waiting)
        for keyed in self.plan.keyed:
            name = keyed.node.name
            given = [
                (shard, found)
                for shard, item in waiting.pop(name, [])
                for found in self.shards[name][shard].on_batch([item])
            ]
            self._deliver(self.run.after(keyed, given), waiting)

    def _deliver(self, items: list[tuple[str, str, Any]], waiting: dict[str, list[tuple[str, Any]]]) -> None:
        for port, shard, item in items:
            if port == DEAD:
                self.dead += [letter for letter in item if letter.kept]
                self._book.dead(item)
            elif port == COUNTS:
                self._book.count(item)
                for name, number in item:
                    self.counted[name] += number if name != AT else 0
            elif shard:
                waiting[port].append((shard, item))
            else:
                self.out[port.removeprefix(TAP)] += item


class Tap(Sink):
    """Takes what comes out of a node, for a test that looks there."""


def tapped(flow: Flow, wires: Iterable[str]) -> Flow:
    """Return the flow with a sink at each of these wires (`node` or `node.output`)."""
    taps = [Node(name=TAP + wire, section="sinks", component=Tap(), inputs=(Input.parse(wire),)) for wire in wires]
    return msgspec.structs.replace(flow, nodes=flow.nodes | {node.name: node for node in taps})


def block_of(messages: list[Sent], first: int, time: int) -> Block:
    """Return messages as the inbox would hold them."""
    sources = sorted({m.source for m in messages})
    topics = sorted({m.topic for m in messages})
    return Block(
        first=first,
        time=time,
        sources=sources,
        source_index=bytes(sources.index(m.source) for m in messages),
        topics=topics,
        topic_index=[topics.index(m.topic) for m in messages],
        payloads=[m.payload for m in messages],
        metas={i: m.meta for i, m in enumerate(messages) if m.meta},
        packets=[],
    )
