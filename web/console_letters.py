"""The console's page of dead letters: grouped by cause; each with its data, which may be edited, retried, dropped."""

import asyncio
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from engine.letter import STATES, Letter, Selection
from engine.refusal import Refusal
from web.channel_entry import Doorkeeper, reaches
from web.console_page import HOME, page, to_login
from web.dead_letter_api import iso, view
from web.guard import Guard
from web.status import Board

GROUPS, PAGE = 200, 20
LONGEST = 64 << 10
"""Characters of data that a browser gets."""


class Group(msgspec.Struct, frozen=True):
    """The letters of one node and cause."""

    node: str
    cause: str
    reason: str
    count: int
    latest: str
    query: str


class Card(msgspec.Struct, frozen=True):
    """One letter as it is shown; `data` as indented JSON or text, `facts` are what else is known, by name."""

    number: int
    id: str
    time: str
    reason: str
    state: str
    attempt: int
    changed: str
    facts: dict[str, str]
    data: str
    fixed: str | None
    source: bool
    whole: bool


class LetterPages:
    """The pages. Viewers see causes and reasons, employees the data, managers may change something (over the API)."""

    def __init__(self, board: Board, guard: Guard) -> None:
        self._board, self._door = board, Doorkeeper(guard)

    def routes(self) -> list[BaseRoute]:
        """Return the routes for the application."""
        path = HOME + "/flows/{flow}/deadletters"
        return [Route(path, self.overview), Route(path + "/letters", self.letters)]

    async def overview(self, request: Request) -> Response:
        """Show the causes of a flow."""
        try:
            account = await self._door.admit(request, "viewer")
        except Refusal as reason:
            if reason.status != 401:
                raise
            return to_login(request)
        name, state = self._known(request), _state(request)
        letters = self._board.letters(name)
        causes = await asyncio.to_thread(letters.causes, Selection(states=(state,)), GROUPS)
        groups = [
            Group(c.node, c.cause, c.reason, c.count, iso(c.latest), _query(state=state, node=c.node, cause=c.cause))
            for c in causes
        ]
        return page(
            "deadletters.html", account, flow=name, state=state, states=STATES, groups=groups, most=GROUPS,
            counts=await asyncio.to_thread(letters.counts), manager=reaches(account, "manager"),
            full=await asyncio.to_thread(letters.full_since) is not None,
        )  # fmt: skip

    async def letters(self, request: Request) -> Response:
        """Show the letters of a cause: a part of the page."""
        account = await self._door.admit(request, "viewer")
        name, query = self._known(request), request.query_params
        chosen = Selection(node=query.get("node"), cause=query.get("cause"), states=(_state(request),))
        before = query.get("before", "")
        limit = int(before) if before.isascii() and before.isdigit() else None
        found = await asyncio.to_thread(self._board.letters(name).rows, chosen, PAGE + 1, limit)
        more = found[PAGE - 1].number if len(found) > PAGE else None
        sources = {node.name for node in self._board.definitions[name].section("sources")}
        return page(
            "letters.html", account, cards=[_card(letter, sources) for letter in found[:PAGE]],
            more=more and _query(**dict(query) | {"before": more}), payloads=reaches(account, "employee"),
            manager=reaches(account, "manager"), flow=name,
        )  # fmt: skip

    def _known(self, request: Request) -> str:
        name = str(request.path_params["flow"])
        if name not in self._board.definitions:
            raise HTTPException(404)
        return name


def letter_page_routes(board: Board, guard: Guard) -> Sequence[BaseRoute]:
    """Return the routes of the pages of dead letters."""
    return LetterPages(board, guard).routes()


def _state(request: Request) -> str:
    state = request.query_params.get("state", "new")
    return state if state in STATES else "new"


def _query(**values: Any) -> str:
    return urlencode(values)


def _card(letter: Letter, sources: set[str]) -> Card:
    found = view(letter)
    data = _shown(found.data) if found.text is None else found.text
    fixed = None if letter.fixed is None else _shown(found.fixed)
    facts = {
        "Id": found.id, "Event time": found.event_time, "Source": found.source, "Topic": found.topic, "Key": found.key,
        "Meta": _shown(found.meta, 0) if found.meta else "", "Values": _shown(found.values, 0) if found.values else "",
        "Flow version": found.version,
    }  # fmt: skip
    changed = f"{iso(letter.changed_at)} by {letter.changed_by}" if letter.changed_at else ""
    return Card(
        letter.number, found.id, found.time, letter.reason, letter.state, letter.attempt, changed,
        {name: value for name, value in facts.items() if value}, data[:LONGEST], fixed, letter.node in sources,
        len(data) <= LONGEST and len(fixed or "") <= LONGEST,
    )  # fmt: skip


def _shown(value: Any, indent: int = 2) -> str:
    return msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=indent).decode()
