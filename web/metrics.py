"""Metrics in Prometheus' text format: each flow and node as the workers report them, and the HTTP requests."""

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from web.services import Services

TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class FlowCollector(Collector):
    """Reads the flows' state when it is asked, so that nothing is counted twice."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of all flows."""
        up = GaugeMetricFamily("millstream_flow_up", "1 while the flow runs.", labels=["flow"])
        lag = GaugeMetricFamily(
            "millstream_flow_lag_seconds", "Age of the oldest event not processed.", labels=["flow"]
        )
        backlog = GaugeMetricFamily(
            "millstream_flow_backlog_events", "Events in the inbox that are not processed.", labels=["flow"]
        )
        restarts = CounterMetricFamily("millstream_flow_restarts", "Restarts after a crash.", labels=["flow"])
        nodes = CounterMetricFamily(
            "millstream_node_events", "Events of a node, by what became of them.", labels=["flow", "node", "what"]
        )
        for name, flow in self._services.flows().items():
            up.add_metric([name], float(flow.state == "running"))
            lag.add_metric([name], flow.lag)
            backlog.add_metric([name], flow.backlog)
            restarts.add_metric([name], flow.restarts)
            for node, counters in flow.nodes.items():
                for what, count in counters.items():
                    nodes.add_metric([name, node, what], count)
        yield from (up, lag, backlog, restarts, nodes)
        yield from self._ledgers()

    def _ledgers(self) -> Iterator[Metric]:
        """Yield the ledgers; their totals go on over restarts."""
        terms = GaugeMetricFamily(
            "millstream_ledger_events", "What became of the events of a flow, in ways.", labels=["flow", "term"]
        )
        remainder = GaugeMetricFamily(
            "millstream_ledger_remainder", "Events that are lost or doubled: always 0.", labels=["flow"]
        )
        for name, flow in self._services.flows().items():
            for term, count in flow.ledger.items():
                if term == "remainder":
                    remainder.add_metric([name], count)
                else:
                    terms.add_metric([name, term], count)
        yield from (terms, remainder)

    def describe(self) -> Iterator[Metric]:
        """Yield nothing: the metrics are only known when they are collected."""
        return iter(())


class Metrics:
    """The registry of one gateway."""

    def __init__(self, services: Services) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(FlowCollector(services))
        self._requests = Counter(
            "millstream_http_requests",
            "HTTP requests, by method and class of status.",
            ["method", "status"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "millstream_http_request_seconds",
            "Time to the end of an answer.",
            ["method"],
            registry=self.registry,
            buckets=_BUCKETS,
        )

    async def __call__(self, request: Request) -> Response:
        """Answer GET /metrics."""
        return Response(generate_latest(self.registry), headers={"Content-Type": TYPE})

    def count(self, method: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        method = method if method in _METHODS else "other"
        self._requests.labels(method, f"{status // 100}xx").inc()
        self._seconds.labels(method).observe(seconds)


class CountRequests:
    """The layer that counts HTTP requests."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.perf_counter(), 500

        async def send_seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, send_seen)
        finally:
            self._metrics.count(scope["method"], status, time.perf_counter() - start)
