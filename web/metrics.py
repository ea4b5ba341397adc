"""Metrics in Prometheus' text format: the flows, the gateway's own process, and the HTTP requests."""

import time

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from web.flow_metrics import FlowCollector
from web.services import Services

TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0)
STREAM = b"text/event-stream"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Metrics:
    """The registry of one gateway."""

    def __init__(self, services: Services) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(FlowCollector(services))
        ProcessCollector(registry=self.registry)
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

    def count(self, method: str, status: int, seconds: float | None) -> None:
        """Count one answered request; one without a time is a stream, which lasts as long as its client likes."""
        method = method if method in _METHODS else "other"
        self._requests.labels(method, f"{status // 100}xx").inc()
        if seconds is not None:
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
        start, status, streams = time.perf_counter(), 500, False

        async def send_seen(message: Message) -> None:
            nonlocal status, streams
            if message["type"] == "http.response.start":
                status = message["status"]
                streams = any(value.startswith(STREAM) for name, value in message["headers"] if name == b"content-type")
            await send(message)

        try:
            await self.app(scope, receive, send_seen)
        finally:
            self._metrics.count(scope["method"], status, None if streams else time.perf_counter() - start)
