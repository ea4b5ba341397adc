"""The console's page of alerts: those of all flows that keep them in a table; what is open may be seen to here."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec
from sqlalchemy import MetaData, select
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from engine.alert_desk import desk_path
from engine.flow import Flow
from engine.refusal import Refusal
from web.channel_entry import Account, Doorkeeper, reaches
from web.console_page import HOME, page, to_login
from web.guard import Guard
from web.status import Board

MOST = 200
LONGEST_READING = 200
SHOWN = ("open", "cleared")


class Desk(msgspec.Struct, frozen=True):
    """Where alerts of a flow are kept and served, and who may read and handle them."""

    flow: str
    table: str
    path: str
    allow: str
    handle: str


class Card(msgspec.Struct, frozen=True):
    """One alert as it is shown; `path` is where it is handled, "" where the account may not."""

    flow: str
    alert: str
    name: str
    key: str
    state: str
    severity: str
    fired: str
    seconds: float
    text: str
    by: str
    muted: str
    path: str


class AlertServices(Board, Protocol):
    """The board, and the database that has the tables."""

    database: AsyncEngine

    def metadata(self, flow: Flow) -> MetaData:
        """Return the tables of a flow."""


class AlertPages:
    """The pages. Who may read and handle the alerts of a flow is what its `alert` nodes say."""

    def __init__(self, services: AlertServices, guard: Guard) -> None:
        self._services, self._door = services, Doorkeeper(guard)

    def routes(self) -> list[BaseRoute]:
        """Return the routes for the application."""
        return [Route(f"{HOME}/alerts", self.overview), Route(f"{HOME}/alerts/list", self.list)]

    async def overview(self, request: Request) -> Response:
        """Show the alerts of all flows."""
        try:
            account = await self._door.admit(request, "viewer")
        except Refusal as reason:
            if reason.status != 401:
                raise
            return to_login(request)
        shown = _shown(request)
        cards = await self._cards(account, shown)
        return page("alerts.html", account, cards=cards, shown=shown, tabs=SHOWN, most=MOST)

    async def list(self, request: Request) -> Response:
        """Show the alerts: the part of the page that is asked for again and again."""
        account = await self._door.admit(request, "viewer")
        shown = _shown(request)
        return page("alert_list.html", account, cards=await self._cards(account, shown), shown=shown, most=MOST)

    async def _cards(self, account: Account | None, shown: str) -> Sequence[Card]:
        """Return the alerts that an account may see, the newest first."""
        found: list[tuple[datetime, Card]] = []
        now = datetime.now(UTC)
        for flow in list(self._services.definitions.values()):
            for desk in desks(flow):
                if reaches(account, desk.allow):
                    may = reaches(account, desk.handle)
                    rows = await self._rows(flow, desk, shown)
                    found += [(row["fired_at"], _card(desk, row, now, may=may)) for row in rows]
        return [card for _, card in sorted(found, key=lambda pair: pair[0], reverse=True)[:MOST]]

    async def _rows(self, flow: Flow, desk: Desk, shown: str) -> Iterable[Any]:
        table = self._services.metadata(flow).tables[desk.table]
        is_open = table.c.state != "cleared"
        chosen = select(table).where(table.c.flow == flow.name, is_open if shown == "open" else ~is_open)
        async with self._services.database.connect() as connection:
            result = await connection.execute(chosen.order_by(table.c.fired_at.desc()).limit(MOST))
            return result.mappings().all()


def desks(flow: Flow) -> Iterator[Desk]:
    """Yield where the alerts of a flow are kept, each place once."""
    nodes: list[Any] = [node.component for node in flow.section("operators") if node.kind == "alert"]
    made = [
        Desk(flow.name, n.table, desk_path(n.path, flow.name), n.allow, n.handle) for n in nodes if n.table != "none"
    ]
    yield from {desk.table: desk for desk in made}.values()


def alert_page_routes(services: AlertServices, guard: Guard) -> Sequence[BaseRoute]:
    """Return the routes of the page of alerts."""
    return AlertPages(services, guard).routes()


def _shown(request: Request) -> str:
    shown = request.query_params.get("show", "open")
    return shown if shown in SHOWN else "open"


def _card(desk: Desk, row: Any, now: datetime, *, may: bool) -> Card:
    ended, muted = row["cleared_at"] or now, row["muted_until"]
    quiet = _iso(muted) if muted and muted > now else ""
    reading = ", ".join(f"{name} {_value(value)}" for name, value in (row["reading"] or {}).items())
    return Card(
        desk.flow, row["alert"], row["name"], row["key"] or "", row["state"], row["severity"],
        _iso(row["fired_at"]), max(0.0, (ended - row["fired_at"]).total_seconds()),
        row["message"] or reading[:LONGEST_READING], row["acknowledged_by"] or "", quiet,
        desk.path if may and row["state"] != "cleared" else "",
    )  # fmt: skip


def _value(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _iso(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
