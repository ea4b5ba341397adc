"""Who may: the account behind a request or a WebSocket, by bearer token, API key, session cookie or `?token=`."""

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import select
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.requests import HTTPConnection
from starlette.responses import Response

from engine.refusal import Refusal
from web.accounts import ACCOUNTS, Account, account_of
from web.api_keys import PREFIX, KeyRing
from web.tokens import SECONDS, Claims, invalid_token, issue, password_version, read, unauthorized

COOKIE = "millstream_session"
KEPT_SECONDS = 2.0
MOST_KEPT = 10_000
_SAFE = ("GET", "HEAD", "OPTIONS")


class Guard:
    """Knows the accounts; what it has looked up it believes for two seconds, a token's signature until it expires."""

    def __init__(self, engine: AsyncEngine, secret: bytes, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._secret = secret
        self._clock = clock
        self._kept: dict[str, tuple[float, Row[Any] | None]] = {}
        self._claims: dict[str, Claims] = {}
        self._keys = KeyRing(engine, clock)

    async def admit(self, connection: HTTPConnection, role: str | None) -> Account | None:
        """Return who asks, also as `scope["account"]`; raises Refusal 401 or 403. With role None anybody may."""
        account = await self._asking(connection, role)
        if role is not None and account is None:
            raise unauthorized("token_missing", "log in first: this needs a token")
        if account is not None and not account.may(role):
            raise Refusal(403, "forbidden", f"this needs the role {role} or higher; {account.name} is {account.role}")
        connection.scope["account"] = account
        return account

    async def _asking(self, connection: HTTPConnection, role: str | None) -> Account | None:
        token = _token(connection)
        if token is None:
            return None
        try:
            return await self.by_token(token)
        except Refusal:
            if role is None:
                return None
            raise

    async def by_token(self, token: str) -> Account:
        """Return the account of a token or an API key; raises Refusal 401 where it is expired, forged or revoked."""
        if token.startswith(PREFIX):
            return await self._keys.account(token)
        claims = self._read(token)
        row = await self._row(claims.name)
        if row is None or not self._current(claims, row):
            raise invalid_token()
        return account_of(row)

    def _read(self, token: str) -> Claims:
        claims = self._claims.get(token)
        if claims is None or claims.until <= time.time():
            claims = read(token, self._secret)
            if len(self._claims) >= MOST_KEPT:
                self._claims.clear()
            self._claims[token] = claims
        return claims

    async def token_for(self, name: str) -> str:
        """Return a new token for an account that has just shown its password."""
        self.forget(name)
        row = await self._row(name)
        if row is None:
            raise invalid_token()
        return issue(row.username, row.role, password_version(row.password_hash, self._secret), self._secret)

    def forget(self, name: str) -> None:
        """Look the account up again at its next request."""
        self._kept.pop(name, None)

    def _current(self, claims: Claims, row: Row[Any]) -> bool:
        """Tell whether the password is still the one of the token; a new account of the same name has another."""
        return claims.version == password_version(row.password_hash, self._secret)

    async def _row(self, name: str) -> Row[Any] | None:
        until, row = self._kept.get(name, (0.0, None))
        if until > self._clock():
            return row
        async with self._engine.connect() as connection:
            row = (await connection.execute(select(ACCOUNTS).where(ACCOUNTS.c.username == name))).first()
        if len(self._kept) >= MOST_KEPT:
            self._kept.clear()
        self._kept[name] = (self._clock() + KEPT_SECONDS, row)
        return row


def set_session(response: Response, token: str, *, secure: bool) -> None:
    """Put a token into the cookie of a browser's session."""
    response.set_cookie(COOKIE, token, max_age=SECONDS, httponly=True, samesite="strict", secure=secure, path="/")


def end_session(response: Response) -> None:
    """Take the cookie away."""
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")


def _token(connection: HTTPConnection) -> str | None:
    scheme, _, bearer = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return bearer.strip()
    if (key := connection.headers.get("x-api-key")) is not None:
        return key.strip()
    reads = connection.scope["type"] == "websocket" or connection.scope["method"] in _SAFE
    if reads and "token" in connection.query_params:
        return connection.query_params["token"]
    cookie = connection.cookies.get(COOKIE)
    if cookie is not None and (connection.scope["type"] == "websocket" or not reads):
        _check_origin(connection)
    return cookie


def _check_origin(connection: HTTPConnection) -> None:
    """Refuse what another site makes a browser send with our cookie."""
    origin = connection.headers.get("origin")
    foreign = origin is not None and urlsplit(origin).netloc != connection.headers.get("host", "")
    if foreign or connection.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Refusal(403, "cross_site", "expected a request from this site's own pages")
