"""The declared queries of the deployed flows, ready to be asked by a request or by a channel."""

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response

from engine.flow import Flow
from engine.queries import ChannelQuery, QuerySpec, SqlQuery, TableQuery
from web.accounts import Account
from web.answers import Answer, Answering, Faults, Given, read_given, to_json
from web.errors import json_answer
from web.guard import Guard
from web.query_sql import SqlAnswer
from web.query_table import TableAnswer
from web.services import Services


class ChannelAnswer:
    """One query of a kept channel value, ready to be asked."""

    def __init__(self, query: ChannelQuery, flow: str, services: Services) -> None:
        self._query = query
        self._flow = flow
        self._services = services

    async def answer(self, given: Given, account: Account | None) -> Answer:
        """Return the kept value, or what is declared for none."""
        faults = Faults()
        faults.unknown(given.text, ())
        faults.raise_any()
        kept = self._services.kept(self._flow, *self._query.source)
        return Answer(to_json(self._query.empty) if kept is None else kept)


def answering(query: QuerySpec, flow: Flow, services: Services) -> Answering:
    """Return a query ready to be asked."""
    if isinstance(query, ChannelQuery):
        return ChannelAnswer(query, flow.name, services)
    if isinstance(query, TableQuery):
        return TableAnswer(query, services.metadata(flow), services.database)
    if isinstance(query, SqlQuery):
        return SqlAnswer(query, services.metadata(flow), services.database)
    raise TypeError(f"a query of a known kind; got {type(query).__name__}")


class QueryHandler:
    """Serves one query: who may, what is given, the answer."""

    def __init__(self, query: QuerySpec, flow: Flow, services: Services, guard: Guard) -> None:
        self._query = query
        self._guard = guard
        self._answering = answering(query, flow, services)

    async def __call__(self, request: Request) -> Response:
        """Answer one request."""
        account = await self._guard.admit(request, self._query.role)
        answer = await self._answering.answer(await read_given(request), account)
        return json_answer(answer.body, answer.status, answer.headers)

    async def ask(self, given: Mapping[str, str], account: Account | None) -> Answer:
        """Return the answer for parameters as text; who may is the caller's matter."""
        return await self._answering.answer(Given(dict(given)), account)
