"""The console: how every flow is, live; the graph of each; what a node does, its documentation and dead letters."""

import asyncio
import hmac
import secrets
import time
from collections.abc import Sequence
from typing import Any, Protocol
from urllib.parse import parse_qsl, quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from engine.letter import Selection
from engine.refusal import Refusal
from engine.request_body import read_body
from web.channel_entry import Account, Doorkeeper, close_code, same_origin
from web.console_page import HOME, page, to_login
from web.graph import Layout, lay_out
from web.guard import Guard, end_session, set_session
from web.status import (
    Board,
    Graph,
    docs_of,
    encoded,
    flow_line,
    flow_lines,
    graph_of,
    letter_lines,
    node_lines,
    options_text,
)

CSRF = "millstream_csrf"
EVERY = 1.0
RECHECK = 60.0
MOST_BODY = 16_384
NEW = Selection(states=("new",))


class Logins(Protocol):
    """Who checks names and passwords."""

    async def check(self, name: str, password: str) -> str:
        """Return the account's name; raises Refusal."""


class Console:
    """The pages. Everybody who may log in may look (role viewer); payloads of dead letters need an employee."""

    def __init__(self, board: Board, guard: Guard, logins: Logins) -> None:
        self._board, self._guard, self._logins = board, guard, logins
        self._door = Doorkeeper(guard)
        self._drawings: dict[str, tuple[object, Graph, Layout]] = {}

    def routes(self) -> list[BaseRoute]:
        """Return the routes for the application."""
        return [
            Route("/", self.front),
            Route(HOME, self.overview),
            Route(HOME + "/login", self.login_page),
            Route(HOME + "/login", self.log_in, methods=["POST"]),
            Route(HOME + "/logout", self.log_out, methods=["POST"]),
            Route(HOME + "/flows/{flow}", self.flow),
            Route(HOME + "/flows/{flow}/nodes/{node}", self.node),
            WebSocketRoute(HOME + "/live", self.live),
        ]

    async def front(self, request: Request) -> Response:
        """Lead to the first page of a pack, or else to the console."""
        pages = (path for flow in self._board.definitions.values() for path in flow.pages)
        return RedirectResponse(next(pages, HOME), 303)

    async def overview(self, request: Request) -> Response:
        """Show all flows."""
        account = await self._admit(request)
        if account is None:
            return to_login(request)
        first = self._all()
        return page("overview.html", account, lines=first["flows"], first=encoded(first), live="")

    async def flow(self, request: Request) -> Response:
        """Show one flow."""
        account = await self._admit(request)
        if account is None:
            return to_login(request)
        name = self._known(request)
        graph, layout = self._drawing(name)
        state, causes = self._shown(name), await asyncio.to_thread(self._board.letters(name).causes, NEW, 12)
        return page(
            "flow.html", account, line=state["flow"], nodes=state["nodes"], graph=graph, layout=layout,
            causes=causes, first=encoded(state), live="?flow=" + quote(name),
        )  # fmt: skip

    async def node(self, request: Request) -> Response:
        """Show what there is to know of a node: a part of the flow's page."""
        account = await self._door.admit(request, "viewer")
        name = self._known(request)
        graph, _ = self._drawing(name)
        node = graph.nodes.get(request.path_params["node"])
        if node is None:
            raise HTTPException(404)
        definition = self._board.definitions[name]
        letters = letter_lines(self._board.letters(name), node.members)
        return page(
            "node.html", account, node=node, line=self._shown(name)["nodes"][node.name], letters=letters,
            docs=docs_of(definition, node.members), options=options_text(definition, node.name),
            payloads=account is not None and account.role != "viewer",
        )  # fmt: skip

    async def live(self, websocket: WebSocket) -> None:
        """Send the state once a second."""
        try:
            if not same_origin(websocket.headers.get("origin"), websocket.headers.get("host")):
                raise Refusal(403, "cross_site", "expected a page of this site")
            await self._door.admit(websocket, "viewer")
        except Refusal as reason:
            await websocket.accept()
            await websocket.close(close_code(reason), reason.message)
            return
        await websocket.accept()
        sending = asyncio.create_task(self._send(websocket, websocket.query_params.get("flow", "")))
        try:
            while True:
                await websocket.receive_text()
        except (WebSocketDisconnect, KeyError):
            pass
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _send(self, websocket: WebSocket, name: str) -> None:
        checked = time.monotonic()
        while True:
            known = not name or name in self._board.definitions
            shown = self._shown(name) if name and known else self._all()
            await websocket.send_text(encoded(shown))
            await asyncio.sleep(EVERY)
            if time.monotonic() - checked > RECHECK:
                checked = time.monotonic()
                try:
                    await self._door.admit(websocket, "viewer")
                except Refusal as reason:
                    await websocket.close(close_code(reason), reason.message)
                    return

    async def login_page(self, request: Request) -> Response:
        """Ask for name and password."""
        return _login_page(request, "", 200)

    async def log_in(self, request: Request) -> Response:
        """Start a session, or say why not."""
        fields = dict(parse_qsl((await read_body(request, MOST_BODY)).decode(errors="replace"), max_num_fields=10))
        known = request.cookies.get(CSRF, "")
        local = same_origin(request.headers.get("origin"), request.headers.get("host"))
        if not local or not known or not hmac.compare_digest(known.encode(), fields.get("csrf", "").encode()):
            return _login_page(request, "This form has expired. Please try again.", 403)
        try:
            name = await self._logins.check(fields.get("username", ""), fields.get("password", ""))
        except Refusal as reason:
            return _login_page(request, reason.message, reason.status, fields.get("username", ""))
        response = RedirectResponse(_local(request.query_params.get("next", "")), 303)
        set_session(response, await self._guard.token_for(name), secure=request.url.scheme == "https")
        response.delete_cookie(CSRF, path=HOME)
        return response

    async def log_out(self, request: Request) -> Response:
        """End the session; the guard refuses what comes from other sites."""
        await self._door.admit(request, "anyone")
        response = RedirectResponse(HOME + "/login", 303)
        end_session(response)
        return response

    async def _admit(self, request: Request) -> Account | None:
        try:
            return await self._door.admit(request, "viewer")
        except Refusal as reason:
            if reason.status != 401:
                raise
            return None

    def _known(self, request: Request) -> str:
        name = str(request.path_params["flow"])
        if name not in self._board.definitions:
            raise HTTPException(404)
        return name

    def _drawing(self, name: str) -> tuple[Graph, Layout]:
        """Return the graph of a flow and its layout, drawn once for each version."""
        definition = self._board.definitions[name]
        kept = self._drawings.get(name)
        if kept is None or kept[0] is not definition:
            graph = graph_of(definition)
            sections = {node.name: node.section for node in graph.nodes.values()}
            kept = (definition, graph, lay_out(sections, [(edge.source, edge.target) for edge in graph.edges]))
            self._drawings[name] = kept
        return kept[1], kept[2]

    def _all(self) -> dict[str, Any]:
        return {"flows": flow_lines(self._board), "gateway": self._board.gateway()}

    def _shown(self, name: str) -> dict[str, Any]:
        graph, _ = self._drawing(name)
        state = self._board.flows()[name]
        line = flow_line(self._board.definitions[name], state)
        return {"flow": line, "nodes": node_lines(graph, state), "steps": state.steps, "queues": state.queues}


def console_routes(board: Board, guard: Guard, logins: Logins) -> Sequence[BaseRoute]:
    """Return the routes of the console, and `/`."""
    return Console(board, guard, logins).routes()


def _login_page(request: Request, fault: str, status: int, username: str = "") -> Response:
    token = secrets.token_urlsafe(24)
    target = _local(request.query_params.get("next", ""))
    response = page("login.html", None, status, fault=fault, csrf=token, username=username, next=quote(target))
    secure = request.url.scheme == "https"
    response.set_cookie(CSRF, token, max_age=3600, path=HOME, httponly=True, samesite="strict", secure=secure)
    return response


def _local(path: str) -> str:
    """Return a path of the console, whatever was asked for."""
    fits = path.startswith(HOME) and path.isprintable() and not path.startswith(HOME + "/login")
    return path if fits and path[len(HOME) : len(HOME) + 1] in ("", "/", "?") else HOME
