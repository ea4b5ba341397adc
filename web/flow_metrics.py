"""The metrics of flows, as their workers report them."""

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from engine.meter import KEYED, SINK
from web.services import FlowState, Services

Flows = Mapping[str, FlowState]
FLOW, NODE = ["flow"], ["flow", "node"]


class FlowCollector(Collector):
    """Reads the flows' state when it is asked, so that nothing is counted twice."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of all flows."""
        flows = self._services.flows()
        yield from _flows(flows)
        yield from _counts(flows)
        yield from _steps(flows)
        yield from _queues(flows)
        yield from _ledgers(flows)

    def describe(self) -> Iterator[Metric]:
        """Yield nothing: the metrics are only known when they are collected."""
        return iter(())


def _flows(flows: Flows) -> Iterator[Metric]:
    up = GaugeMetricFamily("millstream_flow_up", "1 while the flow runs.", labels=FLOW)
    lag = GaugeMetricFamily("millstream_flow_lag_seconds", "Age of the oldest event not processed.", labels=FLOW)
    backlog = GaugeMetricFamily(
        "millstream_flow_backlog_events", "Events in the inbox that are not processed.", labels=FLOW
    )
    restarts = CounterMetricFamily("millstream_flow_restarts", "Restarts after a crash.", labels=FLOW)
    memory = GaugeMetricFamily("millstream_flow_memory_bytes", "Resident memory of the flow's worker.", labels=FLOW)
    cpu = CounterMetricFamily(
        "millstream_flow_cpu_seconds", "CPU time of the flow's worker since it started.", labels=FLOW
    )
    for name, flow in flows.items():
        up.add_metric([name], float(flow.state == "running"))
        lag.add_metric([name], flow.lag)
        backlog.add_metric([name], flow.backlog)
        restarts.add_metric([name], flow.restarts)
        memory.add_metric([name], flow.rss)
        cpu.add_metric([name], flow.cpu_seconds)
    return iter((up, lag, backlog, restarts, memory, cpu))


def _counts(flows: Flows) -> Iterator[Metric]:
    events = CounterMetricFamily(
        "millstream_node_events", "Events of a node, by what became of them.", labels=["flow", "node", "what"]
    )
    for name, flow in flows.items():
        for node, counters in flow.nodes.items():
            for what, count in counters.items():
                events.add_metric([name, node, what], count)
    yield events


def _steps(flows: Flows) -> Iterator[Metric]:
    """Yield what the steps cost; one of several nodes has the name of the node after which it begins."""
    cpu = CounterMetricFamily(
        "millstream_node_cpu_seconds", "CPU time of a node, or of the stretch after it, since its worker started.",
        labels=["flow", "node", "kind"],
    )  # fmt: skip
    busy = CounterMetricFamily(
        "millstream_sink_busy_seconds", "Time in which a sink was writing or waited for its target.", labels=NODE
    )
    keys = GaugeMetricFamily("millstream_state_keys", "Keys of a keyed node at its last snapshot.", labels=NODE)
    size = GaugeMetricFamily("millstream_state_bytes", "Bytes of a keyed node's last snapshot.", labels=NODE)
    for name, flow in flows.items():
        for step in flow.steps:
            cpu.add_metric([name, step.name, step.kind], step.seconds)
            if step.kind == SINK:
                busy.add_metric([name, step.name], step.busy_seconds)
            elif step.kind == KEYED:
                keys.add_metric([name, step.name], step.keys)
                size.add_metric([name, step.name], step.state)
    return iter((cpu, busy, keys, size))


def _queues(flows: Flows) -> Iterator[Metric]:
    """Yield what waits; a spill is told of while it holds something."""
    labels = ["flow", "queue", "name"]
    fill = GaugeMetricFamily("millstream_queue_fill_ratio", "How full a queue is, 0 to 1.", labels=labels)
    waiting = GaugeMetricFamily(
        "millstream_queue_waiting", "Events that wait, or of clients the messages of the slowest.", labels=labels
    )
    for name, flow in flows.items():
        for queue in flow.queues:
            fill.add_metric([name, queue.kind, queue.name], queue.fill)
            waiting.add_metric([name, queue.kind, queue.name], queue.waiting)
    return iter((fill, waiting))


def _ledgers(flows: Flows) -> Iterator[Metric]:
    """Yield the ledgers; their totals go on over restarts."""
    terms = GaugeMetricFamily(
        "millstream_ledger_events", "What became of the events of a flow, in ways.", labels=["flow", "term"]
    )
    remainder = GaugeMetricFamily(
        "millstream_ledger_remainder", "Events that are lost or doubled: always 0.", labels=FLOW
    )
    for name, flow in flows.items():
        for term, count in flow.ledger.items():
            if term == "remainder":
                remainder.add_metric([name], count)
            else:
                terms.add_metric([name, term], count)
    return iter((terms, remainder))
