"""The API of operations: the same calls on the web port under `/api` (by role) and on the control socket (by its mode).

An endpoint is a coroutine that takes a Call and returns what is encoded as JSON, or a Response of its own.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

import msgspec
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, Router

from engine.errors import EnvironmentFault, FlowInvalid, MillstreamError, UsageFault
from engine.refusal import Refusal
from engine.request_body import read_body
from web.errors import json_answer, refusal_for
from web.guard import Guard
from web.routes import Handler, Resource

MOST_BODY = 4 << 20
OPERATOR = "operator"
T = TypeVar("T")


class Call:
    """One call: `path` and `query` are its parameters, `author` is who made it."""

    def __init__(self, request: Request, author: str) -> None:
        self.request, self.author = request, author
        self.path: dict[str, str] = dict(request.path_params)
        self.query = request.query_params

    async def body(self, kind: type[T]) -> T:
        """Return the body as a struct; raises Refusal 422 where it is not."""
        try:
            return msgspec.json.decode(await read_body(self.request, MOST_BODY) or b"{}", type=kind)
        except msgspec.DecodeError as fault:
            raise Refusal(422, "invalid", str(fault)) from None

    def number(self, name: str, default: int, most: int) -> int:
        """Return a whole number of the query string; raises Refusal 422."""
        text = self.query.get(name, str(default))
        if not text.isascii() or not text.isdigit() or int(text) > most:
            raise Refusal(422, "invalid_parameter", f"{name}: a whole number from 0 to {most}; got '{text}'")
        return int(text)


Work = Callable[[Call], Awaitable[Any]]


class Endpoint(msgspec.Struct, frozen=True):
    """One call of the API: `path` begins after `/api`; `role` is the least role on the web port."""

    method: str
    path: str
    role: str
    work: Work


def api_routes(endpoints: Iterable[Endpoint], guard: Guard) -> list[BaseRoute]:
    """Return the routes for the web port; a guard stands before each."""
    return _routes(endpoints, guard, "/api")


def control_app(endpoints: Iterable[Endpoint]) -> Router:
    """Return the application for the control socket, which only the owner of the data folder can open."""
    return Router(_routes(endpoints, None, ""), redirect_slashes=False)


def _routes(endpoints: Iterable[Endpoint], guard: Guard | None, prefix: str) -> list[BaseRoute]:
    resources: dict[str, Resource] = {}
    for endpoint in endpoints:
        resources.setdefault(prefix + endpoint.path, Resource()).handlers[endpoint.method] = _handler(endpoint, guard)
    return [Route(path, resource) for path, resource in resources.items()]


def _handler(endpoint: Endpoint, guard: Guard | None) -> Handler:
    async def handle(request: Request) -> Response:
        author = OPERATOR
        try:
            if guard is not None:
                account = await guard.admit(request, endpoint.role)
                author = account.name if account else OPERATOR
            found = await endpoint.work(Call(request, author))
        except (MillstreamError, HTTPException, SQLAlchemyError) as fault:
            found = _refusal(fault)
        if isinstance(found, Refusal):
            return json_answer(found.body(), found.status, found.headers)
        return found if isinstance(found, Response) else json_answer(msgspec.json.encode(found))

    return handle


def _refusal(fault: Exception) -> Refusal:
    """Return what is answered to a call that fails in a way that happens."""
    if isinstance(fault, FlowInvalid):
        return Refusal(422, "flow_invalid", str(fault), more={"findings": fault.findings})
    if isinstance(fault, UsageFault):
        return Refusal(422, "invalid", str(fault))
    if isinstance(fault, EnvironmentFault):
        return Refusal(503, "environment", str(fault))
    return refusal_for(fault) or Refusal(409, "refused", str(fault))
