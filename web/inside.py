"""What the parts of a gateway share: flows with their inboxes, hubs and processes, and what workers tell of them."""

import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy import MetaData
from sqlalchemy.ext.asyncio import AsyncEngine

from engine.arrival import Arrival, Intake
from engine.component import ChannelSource
from engine.dead_letters import DeadLetterStore
from engine.flow import Flow
from engine.frames import Answer, Push, Report, Tapped
from engine.inbox import InboxWriter
from engine.intake import FlowIntake, ReplyDesk
from engine.ledger import INBOX
from engine.link_server import LinkServer
from engine.media import MediaStore
from engine.pulse import Pulse
from engine.settings import Settings
from engine.supervisor import Process
from web.backlog import Ages
from web.channels import ChannelHub
from web.cost import FlowCost, OwnCost, sink_queues
from web.ledgers import Ledgers
from web.services import FlowState, Footprint, Queue
from web.taps import TapHub

RATE_TIME, SILENT, SHORTEST = 5.0, 5.0, 0.1
SHOWN = ("in", "out", "dead")
AWAITED = ("connecting", "")
Counts = dict[str, dict[str, float]]


class Inside:
    """Implements what the web layer asks (Services) and what the link tells (LinkHandlers)."""

    def __init__(self, settings: Settings, database: AsyncEngine) -> None:
        self.settings, self.database = settings, database
        self.secret = settings.token_key().encode()
        self.media = MediaStore(settings.data / "media")
        self.mqtt = settings.mqtt()
        self.definitions: dict[str, Flow] = {}
        self.inboxes: dict[str, InboxWriter] = {}
        self.hubs: dict[str, ChannelHub] = {}
        self.processes: dict[str, Process] = {}
        self.source_states: dict[tuple[str, str], tuple[str, str]] = {}
        self.links: LinkServer
        self.taps = TapHub(self.definitions, lambda flow, wires: self.links.tap(flow, wires))
        self.ledgers = Ledgers()
        self._metadata: dict[str, MetaData] = {}
        self._desks: dict[str, ReplyDesk] = {}
        self._reports: dict[str, deque[tuple[float, Report]]] = {}
        self._letters: dict[str, DeadLetterStore] = {}
        self.pulse = Pulse()
        self.own_cost = OwnCost()
        self._ages = Ages()
        self._costs: dict[str, FlowCost] = {}

    def add(self, flow: Flow, metadata: MetaData) -> None:
        """Take a flow that is deployed."""
        self.definitions[flow.name] = flow
        self._costs[flow.name] = FlowCost(flow)
        self.taps.linked(flow.name)
        self._metadata[flow.name] = metadata
        self._reports.setdefault(flow.name, deque(maxlen=16)).clear()

    def remove(self, flow: str) -> None:
        """Forget a flow that is not deployed any more."""
        for known in (
            self.definitions,
            self.inboxes,
            self.hubs,
            self.processes,
            self._desks,
            self._letters,
            self._costs,
        ):
            known.pop(flow, None)
        self.taps.gone(flow)
        self.ledgers.forget(flow)
        self.forget_sources(flow, set())

    def done(self, flow: str) -> int:
        """Return the offset up to which a flow's worker has read its inbox."""
        return self.report(flow).offset

    def durable(self, flow: str) -> int:
        """Return the offset up to which everything of a flow is durable everywhere, its states too."""
        return self.inboxes[flow].done

    def open(self, flow: str, inbox: InboxWriter, desk: ReplyDesk) -> None:
        """Take the open inbox of a flow."""
        self.inboxes[flow], self._desks[flow] = inbox, desk
        self._letters[flow] = DeadLetterStore(self.settings.flow_folder(flow) / "deadletters.db")

    def committed(self, flow: str) -> Callable[[int, int], None]:
        """Return what wakes a flow's worker after a commit."""
        return lambda head, at: self.links.wake(flow, head, at)

    def metadata(self, flow: Flow) -> MetaData:
        """Return the tables and views of a flow."""
        return self._metadata[flow.name]

    def kept(self, flow: str, channel: str, event: str) -> bytes | None:
        """Return the JSON of the value that a channel keeps of an event."""
        return self.hubs[flow].kept(channel, event)

    def intake(self, flow: str, source: str) -> Intake:
        """Return what a pushed source writes to."""
        return FlowIntake(self.inboxes[flow], self._desks[flow], flow, source, self.mqtt, self._source_state)

    def _source_state(self, flow: str, source: str, state: str, detail: str) -> None:
        self.source_states[flow, source] = (state, detail)

    def forget_sources(self, flow: str, known: set[str]) -> None:
        """Forget how the sources were that a flow has not any more."""
        gone = [(name, source) for name, source in self.source_states if name == flow and source not in known]
        for key in gone:
            del self.source_states[key]

    def receiver(self, flow: Flow) -> Callable[[str, str, Any, str], Awaitable[None]] | None:
        """Return what takes the messages that clients of the flow's channels send; None where no source does."""
        sources = {
            n.component.channel(): n.name for n in flow.section("sources") if isinstance(n.component, ChannelSource)
        }

        async def receive(channel: str, room: str, account: Any, text: str) -> None:
            meta = {"account": account.name if account else None, "room": room}
            await self.intake(flow.name, sources[channel]).append([Arrival(text.encode(), channel, meta)])

        return receive if sources else None

    def mark(self, flow: str) -> tuple[int, int]:
        """Return up to when everything is committed."""
        return self.inboxes[flow].mark()

    def on_push(self, flow: str, pushes: list[Push]) -> Awaitable[None] | None:
        """Bring events to their channels; done when they are durable there."""
        return self.hubs[flow].publish(pushes)

    async def on_answer(self, flow: str, answers: list[Answer]) -> None:
        """Bring answers to those who wait; returns when those that may be asked for again are durable."""
        for answer in answers:
            self._desks[flow].answer(answer.id, answer.status, answer.body)
        await self._desks[flow].stored()

    def on_used(self, flow: str, offset: int) -> None:
        """Remember up to where a flow is done."""
        self.inboxes[flow].used(offset)
        self.processes[flow].progressed(offset)

    def on_report(self, flow: str, report: Report) -> None:
        """Take a worker's counters."""
        self._reports[flow].append((time.monotonic(), report))
        self.pulse.heard(flow)
        self.ledgers.take(flow, report)

    def on_tapped(self, flow: str, tapped: Tapped) -> None:
        """Bring what a worker saw to those who look."""
        self.taps.take(flow, tapped)

    def on_state(self, flow: str, connected: bool) -> None:
        """Take note that a worker works, or does not any more."""
        self.processes[flow].ready(connected)
        if connected:
            self.taps.linked(flow)
            self.pulse.heard(flow)
        else:
            self._reports[flow].clear()
            self.pulse.gone(flow)

    def report(self, flow: str) -> Report:
        """Return the latest counters of a flow."""
        reports = self._reports.get(flow)
        return reports[-1][1] if reports else Report()

    def rates(self, flow: str) -> Counts:
        """Return what each node did a second, over the last five seconds."""
        now, reports = time.monotonic(), self._reports.get(flow) or ()
        recent = [entry for entry in reports if entry[0] > now - RATE_TIME]
        if len(recent) < 2:
            return {}
        (since, first), (_, last) = recent[0], recent[-1]
        return {name: _rate(first.nodes.get(name, {}), counts, now - since) for name, counts in last.nodes.items()}

    def ledger(self, flow: str) -> dict[str, int]:
        """Return the terms of a flow's ledger; empty before its worker has told any."""
        return self.ledgers.terms(flow, self.inboxes[flow].head) if flow in self.inboxes else {}

    def gateway(self) -> Footprint:
        """Return what the gateway's own process takes."""
        return self.own_cost()

    def letters(self, flow: str) -> DeadLetterStore:
        """Return the dead letters of a flow."""
        return self._letters[flow]

    def flows(self) -> dict[str, FlowState]:
        """Return every deployed flow's state by its name; one without a process yet is starting."""
        return {
            name: self._state(name, self.processes[name]) if name in self.processes else FlowState(state="starting")
            for name in self.definitions
        }

    def _state(self, name: str, process: Process) -> FlowState:
        report, rates = self.report(name), self.rates(name)
        flow, (backlog, lag) = self.definitions[name], self._waiting(name)
        since, first = self._earlier(name)
        return FlowState(
            state="starting" if process.state == "running" and self._awaits(name) else process.state,
            restarts=process.restarts,
            last_error=process.last_error,
            nodes=report.nodes,
            backlog=backlog,
            lag=lag,
            since=process.since,
            pid=process.pid or 0,
            rss=report.rss,
            dead=self._letters[name].counts().get("new", 0),
            rates={
                node: counts.get("in" if self._is_sink(name, node) else "out", 0.0) for node, counts in rates.items()
            },
            node_rates={node: {what: counts.get(what, 0.0) for what in SHOWN} for node, counts in rates.items()},
            rate_in=sum(rates.get(node.name, {}).get("out", 0.0) for node in flow.section("sources")),
            rate_out=sum(rates.get(node.name, {}).get("out", 0.0) for node in flow.section("sinks")),
            cpu=(report.cpu - first.cpu) / since,
            cpu_seconds=report.cpu,
            steps=self._costs[name].lines(rates, first, report, since),
            queues=self._queues(name, backlog, report),
            sources={source: state for (flow, source), state in self.source_states.items() if flow == name},
            ledger=self.ledger(name),
            unbalanced=self.ledgers.where(name),
        )

    def _awaits(self, name: str) -> bool:
        """Tell whether a source has neither connected nor failed yet: what is sent to it now may reach nobody."""
        return any(state == AWAITED for (flow, _), state in self.source_states.items() if flow == name)

    def _is_sink(self, flow: str, node: str) -> bool:
        return node in self.definitions[flow].nodes and self.definitions[flow].nodes[node].section == "sinks"

    def _waiting(self, name: str) -> tuple[int, float]:
        """Return how many events wait in an inbox and the age of the oldest, also while its worker is away."""
        reports, inbox = self._reports.get(name), self.inboxes[name]
        report = reports[-1][1] if reports else Report()
        if reports and time.monotonic() - reports[-1][0] < SILENT:
            return max(0, report.head - report.offset), report.lag
        offset = max(report.offset, inbox.done)
        return (inbox.head - offset, self._ages.age(inbox.path, offset)) if inbox.head > offset else (0, 0.0)

    def _earlier(self, name: str) -> tuple[float, Report]:
        """Return the oldest report of the last seconds, or else the latest, and how long before the latest it was."""
        reports = self._reports.get(name) or [(0.0, Report())]
        since = time.monotonic() - RATE_TIME
        at, report = next((entry for entry in reports if entry[0] > since), reports[-1])
        return max(reports[-1][0] - at, SHORTEST), report

    def _queues(self, name: str, backlog: int, report: Report) -> list[Queue]:
        clients = self.hubs[name].queues() if name in self.hubs else {}
        inbox = Queue("inbox", INBOX, backlog, self.inboxes[name].fill)
        return [inbox, *sink_queues(report), *(Queue("clients", *of) for of in clients)]


def _rate(first: dict[str, Any], last: dict[str, Any], seconds: float) -> dict[str, float]:
    return {name: (value - first.get(name, 0)) / max(seconds, 0.1) for name, value in last.items()}
