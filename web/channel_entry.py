"""Who may enter a live channel: which origins, which roles, and what a refused client is told."""

from collections.abc import Collection
from typing import Protocol
from urllib.parse import urlsplit

import structlog
from starlette.requests import HTTPConnection

from engine.channels import ROLES
from engine.refusal import Refusal, busy
from web.errors import refusal_for

ROOM_LENGTH = 64
_log = structlog.get_logger(__name__)


class Account(Protocol):
    """Who is there."""

    @property
    def name(self) -> str: ...
    @property
    def role(self) -> str: ...


class Guard(Protocol):
    """Who knows the accounts; both raise Refusal 401 or 403."""

    async def admit(self, connection: HTTPConnection, role: str | None) -> Account | None:
        """Return whose token a connection carries; with role None anybody may come in."""

    async def by_token(self, token: str) -> Account:
        """Return whose token it is."""


class Doorkeeper:
    """Asks the guard, so that only refusals come out: a database that is away is a 503."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    async def admit(self, connection: HTTPConnection, role: str, token: str | None = None) -> Account | None:
        """Return whose token it is, that one or else the connection's, if it reaches the role; raises Refusal.

        Where anyone may come in, an invalid token is as good as none.
        """
        wanted = None if role == "anyone" else role
        try:
            account = await (self._guard.by_token(token) if token else self._guard.admit(connection, wanted))
        except Exception as fault:
            reason = _refused(fault)
            if wanted is None and reason.status == 401:
                return None
            raise reason from fault
        lacks = lacking(account, role)
        if lacks is not None:
            raise lacks
        return account


def _refused(fault: Exception) -> Refusal:
    reason = refusal_for(fault)
    if reason is None:
        _log.error("account lookup failed", fault=repr(fault))
    return reason or busy("accounts cannot be looked up now", 10)


def reaches(account: Account | None, role: str) -> bool:
    """Tell whether an account has a role or a higher one; anybody reaches `anyone`."""
    if role == "anyone":
        return True
    return account is not None and account.role in ROLES and ROLES.index(account.role) >= ROLES.index(role)


def lacking(account: Account | None, role: str) -> Refusal | None:
    """Return why an account may not do what needs the role, or None."""
    if reaches(account, role):
        return None
    if account is None:
        return Refusal(401, "token_missing", "log in first: this needs a token")
    return Refusal(403, "forbidden", f"this needs the role {role} or higher; {account.name} is {account.role}")


def close_code(reason: Refusal) -> int:
    """Return the WebSocket close code of a refusal: 4401, 4403, 4404; 1013 for `try again later`."""
    return 1013 if reason.status >= 500 else 4000 + reason.status


def same_origin(origin: str | None, host: str | None, also: Collection[str] = ()) -> bool:
    """Tell whether a page of this origin may connect: it is of this host, or listed; who is no page sends none."""
    if origin is None or origin in also:
        return True
    return bool(host) and urlsplit(origin).netloc.lower() == (host or "").lower()


def room_fits(room: str) -> bool:
    """Tell whether this can be the name of a room: 1 to 64 printable characters."""
    return 0 < len(room) <= ROOM_LENGTH and room.isprintable()
