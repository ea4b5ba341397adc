"""The worker: one process that runs one flow.

I/O thread (asyncio): link to the gateway, sinks          main thread: Bytewax
wake-ups ──▶ feed ──▶ stages and keyed nodes ──▶ outlet ──▶ lanes on the I/O thread
"""

import asyncio
import gc
import os
import signal
import threading
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import msgspec
import psutil
import structlog

from engine.appended import appended_tables
from engine.ask_lane import asking_on
from engine.bytewax_sink import OutletSink
from engine.bytewax_source import FeedSource
from engine.compile import dataflow, execute, make_ready
from engine.component import Sink
from engine.database import open_database
from engine.dead_letters import DeadLetterStore
from engine.deployed import Loaded, load_deployed
from engine.epoch import epoch_for
from engine.errors import EnvironmentFault, MillstreamError
from engine.feed import Feed, Position
from engine.fingerprints import fingerprints
from engine.flow import Flow, Node
from engine.frames import Report
from engine.inbox import InboxReader
from engine.ledger import INBOX, Book
from engine.link import LinkClient
from engine.meter import READ, START
from engine.outlet import Opener, Outlet
from engine.outputs import DEAD
from engine.outside import DeadLetters, Outside
from engine.outstanding import Outstanding
from engine.plan import Plan, Run
from engine.recovery import check_states
from engine.retry import ENTRY
from engine.settings import Settings
from engine.spill import open_spills
from engine.step_costs import step_costs
from engine.table_log import TableLogFile
from engine.tables import to_sqlalchemy
from engine.tap import Taps
from engine.worker_lock import worker_lock

STOP_PATIENCE, CLOSE_PATIENCE = 8.0, 2.0
NOT_WRITTEN = EnvironmentFault("not all was written before the stop; it is processed again at the next start")
log = structlog.get_logger()


class Worker:
    """Everything of one flow's process; `run` returns when it was asked to stop. `ahead` is what was loaded already."""

    def __init__(self, settings: Settings, name: str, token: str, ahead: Loaded | None = None) -> None:
        self.settings, self.name = settings, name
        self.folder = settings.flow_folder(name)
        self._lock = worker_lock(self.folder)
        self.flow, record = load_deployed(settings, name, ahead)
        self.recovery = record.recovery
        self.plan = Plan(self.flow)
        self._io = _IoThread()
        self.life = Run(self.plan, Outstanding(asking_on(self._io.loop, self._io.spawn)))
        self.life.outstanding.wake = self._wake_up
        self.inbox = InboxReader(self.folder / "inbox.db")
        self.link = LinkClient(settings.data / "link.sock", name, token, on_wake=self._wake, on_mark=self._mark)
        self.link.on_tap = Taps(self.plan, self.link.tapped).set
        self.letters = DeadLetters(DeadLetterStore(self.folder / "deadletters.db"), self.plan.replying, record.version)
        openers: dict[str, Opener] = {node.name: _opener(node) for node in self.flow.section("sinks")}
        openers[DEAD] = self.letters.open
        answering = frozenset(node.name for node in self.flow.section("sinks") if node.kind == "reply")
        spills = open_spills(self.flow, self.folder)
        self.outlet = Outlet(openers, self.letters.drop, answering, Book(self.flow), spills)
        self.feed: Feed | None = None
        self._stopping = False

    def run(self) -> None:
        """Run until SIGTERM or SIGINT; what was read is then written and snapshotted."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        outside = self._io.call(self._outside())
        self.outlet.start(self._io.loop, outside)
        self._io.spawn(self._report())
        source = FeedSource(self._feed, lambda: self._stopping, self.life.meter.step(READ, INBOX))
        sink = OutletSink(self.outlet, self._push_kept)
        gc.freeze()
        gc.disable()
        recovery = self.folder / self.recovery
        try:
            make_ready(recovery)
            check_states(recovery, fingerprints(self.flow))
            execute(dataflow(self.life, source, sink), recovery, epoch_for(recovery))
        except Exception as fault:
            cause = _cause(fault)
            raise cause from cause.__cause__
        finally:
            with suppress(TimeoutError):
                self._io.call(self._close(outside), CLOSE_PATIENCE)

    async def _close(self, outside: Outside) -> None:
        await self.life.outstanding.close()
        await self.outlet.close()
        await outside.database.dispose()

    async def _outside(self) -> Outside:
        database = open_database(self.settings.database)
        metadata = to_sqlalchemy(self.flow.tables, appended_tables(self.flow))
        sources = self.flow.section("sources")
        rows = frozenset(node.name for node in sources if getattr(node.component, "reply", "") == "row")
        return Outside(
            flow=self.name,
            database=database,
            metadata=metadata,
            link=self.link,
            mqtt=self.settings.mqtt(),
            answer_rows=rows,
            letters=self.letters,
            outlet=self.outlet,
        )

    def _feed(self, position: Position) -> Feed:
        """Build the feed; the link comes up with it, which tells the gateway that the flow runs."""
        if self.flow.live:
            rows = TableLogFile(self.folder)
            self.flow.live.load(rows, rows.before(position.offset + 1))
        self.life.meter.step(START, "").cpu = time.thread_time_ns()
        self.feed = Feed(self.plan, self.inbox, self.life.clock, self.link, position, self.life.outstanding)
        self.outlet.book.begin(position.offset)
        self._io.spawn(self.link.run())
        for name in self.plan.asking:
            self.life.outstanding.tell(name)
        return self.feed

    def _wake(self, head: int, at: int) -> None:
        if self.feed is not None:
            self.feed.wake(head, at)

    def _mark(self, head: int, at: int) -> None:
        if self.feed is not None:
            self.feed.mark(head, at)

    def _wake_up(self) -> None:
        if self.feed is not None:
            self.feed.wake_up()

    def _push_kept(self) -> None:
        """Send the kept values again: to a gateway that may have started anew."""
        kept = self.outlet.kept()
        if kept:
            self._io.spawn(self.link.push(kept))

    def _stop(self, _number: int, _frame: object) -> None:
        """Stop at the next batch; takes no lock, since a signal comes anywhere."""
        self._stopping = True
        self._io.loop.call_soon_threadsafe(self._wake_up)
        self._io.loop.call_soon_threadsafe(self._io.loop.call_later, STOP_PATIENCE, self.outlet.give_up, NOT_WRITTEN)

    async def _report(self) -> None:
        """Tell the gateway how the flow is: once a second when it changed, else every other second that we live."""
        process, last, heard = psutil.Process(), b"", False
        while True:
            report = self._state()
            encoded = msgspec.json.encode(report)
            heard = encoded != last or not heard
            if heard:
                last = encoded
                report.rss, report.cpu = process.memory_info().rss, time.process_time()
                report.steps = step_costs(self.life.meter, self.outlet)
                self.link.report(report)
            await asyncio.sleep(1.0)

    def _state(self) -> Report:
        report = Report(nodes=self._counts())
        if self.feed is not None:
            report.offset, report.lag = self.feed.position.offset, self.feed.lag()
            report.head = max(self.feed.head, report.offset)
            if ledger := self.outlet.book.ledger(report.head):
                report.ledger, report.unbalanced = ledger.terms(), ledger.where
        return report

    def _counts(self) -> dict[str, dict[str, int | float]]:
        counts: dict[str, int] = {}
        for stage in self.plan.stages():
            for name, count in stage.counts.items():
                counts[name] = counts.get(name, 0) + count
        found = node_counts(self.flow, counts, self.outlet, self.letters.counts)
        for name in self.plan.asking:
            found[name] |= self.life.outstanding.counts(name)
        return found


def node_counts(
    flow: Flow, out: dict[str, int], outlet: Outlet, dead: dict[str, int]
) -> dict[str, dict[str, int | float]]:
    """Return for each node what came in, went out, failed, and how often its target was away."""
    found: dict[str, dict[str, int | float]] = {}
    for node in flow.nodes.values():
        came = (
            out.get(node.name, 0) if node.section == "sources" else sum(out.get(str(wire), 0) for wire in node.inputs)
        ) + out.get(ENTRY + node.name, 0)
        found[node.name] = {"in": came, "out": out.get(node.name, 0), "dead": dead.get(node.name, 0)}
        if node.name in outlet.lanes:
            state = outlet.lanes[node.name].state
            away = int(bool(state.away or state.fault))
            found[node.name] |= {"out": state.written, "retries": state.retries, "away": away}
            found[node.name] |= {"spilled": state.spilled, **state.counts}
    return found


def _opener(node: Node) -> Opener:
    component = node.component
    if not isinstance(component, Sink):
        raise TypeError(f"node '{node.name}' is no sink")
    return lambda outside: component.open(node, outside)


def _cause(fault: BaseException) -> BaseException:
    """Return what went wrong in our code under the exceptions that Bytewax puts around it."""
    while type(fault).__module__.startswith("bytewax") and fault.__cause__ is not None:
        fault = fault.__cause__
    return fault


class _IoThread:
    """The asyncio loop of a worker, on a thread of its own; when one of its tasks fails, the process ends."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, name="io", daemon=True).start()

    def call(self, coroutine: Coroutine[Any, Any, Any], timeout: float = 30.0) -> Any:
        """Run a coroutine there and return its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout)

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine there in the background."""
        asyncio.run_coroutine_threadsafe(coroutine, self.loop).add_done_callback(_ended)


def _ended(future: Any) -> None:
    if future.cancelled() or future.exception() is None:
        return
    fault = future.exception()
    known = isinstance(fault, MillstreamError)
    log.error("worker fails", reason=str(fault) or type(fault).__name__, exc_info=None if known else fault)
    os._exit(fault.exit_code if isinstance(fault, MillstreamError) else 70)
