"""The paths of the deployed flows: HTTP sources and queries, replaced as a whole when a flow is deployed."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, Router, WebSocketRoute
from starlette.types import Lifespan, Receive, Scope, Send

from engine.component import RoutedSource, SocketSource
from engine.errors import Finding, FlowInvalid
from engine.flow import Flow, Node
from engine.paths import path_order
from web.accounts import Account
from web.answers import Answer
from web.flow_sockets import FlowSocket
from web.guard import Guard
from web.queries import QueryHandler
from web.services import Services

Handler = Callable[[Request], Awaitable[Response]]
MoreRoutes = Callable[[Flow], Iterable[BaseRoute]]


class SourceHandler:
    """Serves one HTTP source: who may, then the source itself."""

    def __init__(self, node: Node, source: RoutedSource, flow: str, services: Services, guard: Guard) -> None:
        self.method, self.path, self._role = source.route()
        self._source = source
        self._node = node.name
        self._flow = flow
        self._services = services
        self._guard = guard

    async def __call__(self, request: Request) -> Response:
        """Answer one request."""
        await self._guard.admit(request, self._role)
        return await self._source.answer(request, self._services.intake(self._flow, self._node))


class Resource:
    """One path with a handler for each of its methods; without parameters, it enters itself into `quick` when found."""

    def __init__(self, handlers: Mapping[str, Handler] | None = None, quick: "Quick | None" = None) -> None:
        self.handlers: dict[str, Handler] = dict(handlers or {})
        self._quick = quick

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; raises HTTPException 405 for a method that is not there."""
        handler = self.handlers.get("GET" if scope["method"] == "HEAD" else scope["method"])
        if handler is None:
            raise HTTPException(405, headers={"Allow": ", ".join(sorted(self.handlers))})
        if self._quick is not None and not scope.get("path_params"):
            self._quick[scope["method"], scope["path"]] = self
        response = await handler(Request(scope, receive, send))
        await response(scope, receive, send)


Quick = dict[tuple[str, str], Resource]


class QuickRouter(Router):
    """A router that finds at once what the flows have answered before: to try all routes costs more than an answer."""

    def __init__(self, flow_routes: "FlowRoutes", routes: Sequence[BaseRoute], lifespan: Lifespan[Any]) -> None:
        super().__init__(routes, redirect_slashes=False, lifespan=lifespan)
        self._flow_routes = flow_routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        known = self._flow_routes.quick.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        await (known or super().__call__)(scope, receive, send)


class FlowRoutes:
    """Serves what the deployed flows declare."""

    def __init__(self, services: Services, guard: Guard, more: MoreRoutes | None = None) -> None:
        self._services = services
        self._guard = guard
        self._more = more
        self._router = Router(redirect_slashes=False)
        self.quick: Quick = {}
        self._queries: dict[tuple[str, str], QueryHandler] = {}
        self._sockets: dict[tuple[str, str], FlowSocket] = {}
        self.flows: tuple[Flow, ...] = ()

    def replace(self, flows: Sequence[Flow]) -> None:
        """Serve these flows from the next request on; raises FlowInvalid where two of them want the same path."""
        if findings := path_conflicts(flows):
            raise FlowInvalid(findings)
        resources: dict[str, Resource] = {}
        quick: Quick = {}
        queries: dict[tuple[str, str], QueryHandler] = {}
        more: list[BaseRoute] = []
        for flow in flows:
            self._add(flow, resources, queries, quick)
            more += self._more(flow) if self._more else ()
        routes = [Route(path, resources[path]) for path in sorted(resources, key=path_order)]
        self._router = Router([*more, *self._socket_routes(flows), *routes], redirect_slashes=False)
        self._queries, self.flows, self.quick = queries, tuple(flows), quick

    def _socket_routes(self, flows: Sequence[Flow]) -> list[BaseRoute]:
        """Return a route for each source with WebSockets; the clients of one that is as it was notice nothing."""
        before, self._sockets = self._sockets, {}
        for flow in flows:
            for node in flow.section("sources"):
                if isinstance(source := node.component, SocketSource):
                    same = before.get((flow.name, node.name))
                    if same is None or same.source != source:
                        same = FlowSocket(node, source, flow.name, self._services, self._guard)
                    self._sockets[flow.name, node.name] = same
        for gone in before.values():
            if gone not in self._sockets.values():
                gone.close()
        found = sorted(self._sockets.values(), key=lambda socket: path_order(socket.path))
        return [WebSocketRoute(socket.path, socket) for socket in found]

    def _add(
        self, flow: Flow, resources: dict[str, Resource], queries: dict[tuple[str, str], QueryHandler], quick: Quick
    ) -> None:
        for name, query in flow.queries.items():
            handler = QueryHandler(query, flow, self._services, self._guard)
            queries[flow.name, name] = handler
            resources.setdefault(query.path, Resource(quick=quick)).handlers[query.method.upper()] = handler
        for node in flow.nodes.values():
            if isinstance(node.component, RoutedSource):
                source = SourceHandler(node, node.component, flow.name, self._services, self._guard)
                resources.setdefault(source.path, Resource(quick=quick)).handlers[source.method.upper()] = source

    async def ask(self, flow: str, query: str, given: Mapping[str, str], account: Account | None = None) -> Answer:
        """Return the answer of a declared query for parameters as text, as a channel gives it on connect."""
        return await self._queries[flow, query].ask(given, account)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection with the routes of this moment."""
        await self._router(scope, receive, send)


def path_conflicts(flows: Iterable[Flow]) -> list[Finding]:
    """Return a finding for each method and path that is served twice."""
    taken: dict[tuple[str, str], str] = {}
    findings = []
    for flow in flows:
        for method, path, name in _paths(flow):
            first = taken.setdefault((method, _shape(path)), f"{flow.name}.{name}")
            if first != f"{flow.name}.{name}":
                message = f"a path of its own; {method} {path} is that of {first}"
                findings.append(Finding(code="path-taken", message=message, path=str(flow.path), node=name))
    return findings


def _paths(flow: Flow) -> Iterable[tuple[str, str, str]]:
    for name, query in flow.queries.items():
        yield query.method.upper(), query.path, name
    for node in flow.nodes.values():
        if isinstance(node.component, RoutedSource):
            method, path, _ = node.component.route()
            yield method.upper(), path, node.name
        elif isinstance(node.component, SocketSource):
            yield "WebSocket", node.component.socket()[0], node.name


def _shape(path: str) -> str:
    return "/".join("{}" if part.startswith("{") else part for part in path.split("/"))
