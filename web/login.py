"""Log in: one answer for whatever is wrong, the same work for unknown names, a lock-out after five failures."""

import asyncio
import math
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import structlog
from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError
from sqlalchemy import select, update
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.requests import Request
from starlette.responses import Response

from engine.refusal import Refusal, busy
from engine.request_body import read_body, read_values
from web.accounts import ACCOUNTS, HASHER, LONGEST, account_name, record
from web.errors import json_answer
from web.guard import Guard
from web.tokens import SECONDS

log = structlog.get_logger(__name__)
FAILURES = 5
LOCKED = timedelta(seconds=60)
MOST_BODY = 16_384
MOST_WAITING = 200
MOST_UNKNOWN = 10_000


class Credentials(msgspec.Struct):
    """What is posted to log in."""

    username: str
    password: str


class Strikes(msgspec.Struct):
    """The failures of a name, and until when it is locked out."""

    failed: int = 0
    until: datetime | None = None

    def wait(self, now: datetime) -> int:
        """Return for how many more seconds the name is locked out."""
        return max(0, math.ceil((self.until - now).total_seconds())) if self.until else 0

    def next(self, now: datetime) -> "Strikes":
        """Return the state after one more failure."""
        return Strikes(0, now + LOCKED) if self.failed + 1 >= FAILURES else Strikes(self.failed + 1, None)


class Logins:
    """Checks names and passwords, one attempt a name at a time, two hashes at a time."""

    def __init__(
        self,
        engine: AsyncEngine,
        hasher: PasswordHasher = HASHER,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._engine = engine
        self._hasher = hasher
        self._now = now
        self._threads = ThreadPoolExecutor(2, "argon2")
        self._nobody = hasher.hash(secrets.token_hex(16))
        self._turns: dict[str, tuple[asyncio.Lock, int]] = {}
        self._unknown: OrderedDict[str, Strikes] = OrderedDict()
        self._waiting = 0

    async def check(self, name: str, password: str) -> str:
        """Return the account's name; raises Refusal 401 (whatever is wrong), 429 (locked out) or 503 (too many)."""
        kept = account_name(name)[:150]
        async with self._turn(kept):
            async with self._engine.connect() as connection:
                row = (await connection.execute(select(ACCOUNTS).where(ACCOUNTS.c.username == kept))).first()
            strikes = Strikes(row.failed, row.locked_until) if row else self._unknown.get(kept, Strikes())
            if wait := strikes.wait(self._now()):
                message = f"too many failed attempts; try again in {wait} s"
                raise Refusal(429, "locked_out", message, headers={"Retry-After": str(wait)})
            if not await self._fits(row.password_hash if row else self._nobody, password) or row is None:
                await self._failed(kept, row, strikes.next(self._now()))
                raise Refusal(401, "wrong_credentials", "the name or the password is wrong")
            await self._succeeded(row, password)
            return str(row.username)

    @asynccontextmanager
    async def _turn(self, name: str) -> AsyncIterator[None]:
        """Let one attempt a name through at a time, so that attempts side by side count one by one."""
        if self._waiting >= MOST_WAITING:
            raise busy("too many log-ins at once; try again")
        self._waiting += 1
        lock, users = self._turns.get(name, (asyncio.Lock(), 0))
        self._turns[name] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            self._waiting -= 1
            lock, users = self._turns.pop(name)
            if users > 1:
                self._turns[name] = (lock, users - 1)

    async def _in_thread(self, call: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)

    async def _fits(self, password_hash: str, password: str) -> bool:
        try:
            return bool(await self._in_thread(self._hasher.verify, password_hash, password[: LONGEST + 1]))
        except (Argon2Error, InvalidHashError):
            return False

    async def _failed(self, name: str, row: Row[Any] | None, strikes: Strikes) -> None:
        if row is None:
            self._unknown[name] = strikes
            self._unknown.move_to_end(name)
            if len(self._unknown) > MOST_UNKNOWN:
                self._unknown.popitem(last=False)
            return
        values = {"failed": strikes.failed, "locked_until": strikes.until}
        async with self._engine.begin() as connection:
            await connection.execute(update(ACCOUNTS).where(ACCOUNTS.c.id == row.id).values(values))
            await record(connection, row.username, "locked out" if strikes.until else "log-in failed")
        if strikes.until:
            log.warning("account locked out", account=row.username, seconds=int(LOCKED.total_seconds()))

    async def _succeeded(self, row: Row[Any], password: str) -> None:
        values: dict[str, Any] = {"failed": 0, "locked_until": None}
        if self._hasher.check_needs_rehash(row.password_hash):
            values["password_hash"] = await self._in_thread(self._hasher.hash, password)
        unchanged = (ACCOUNTS.c.id == row.id) & (ACCOUNTS.c.password_hash == row.password_hash)
        async with self._engine.begin() as connection:
            await connection.execute(update(ACCOUNTS).where(unchanged).values(values))
            await record(connection, row.username, "logged in")

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class LoginRoute:
    """POST /auth/login: a name and a password for a token."""

    def __init__(self, logins: Logins, guard: Guard) -> None:
        self._logins = logins
        self._guard = guard

    async def __call__(self, request: Request) -> Response:
        """Answer 200 with a token, or 401, 422, 429."""
        given = read_values(await read_body(request, MOST_BODY))
        try:
            credentials = msgspec.convert(given, Credentials)
        except msgspec.ValidationError as fault:
            raise Refusal(422, "invalid_credentials", f"expected username and password as text: {fault}") from None
        name = await self._logins.check(credentials.username, credentials.password)
        token = await self._guard.token_for(name)
        answer = {"access_token": token, "token_type": "bearer", "expires_in": SECONDS}
        return json_answer(msgspec.json.encode(answer))


class WhoRoute:
    """GET /auth/me: who the token is."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    async def __call__(self, request: Request) -> Response:
        """Answer the account's name and role."""
        account = await self._guard.admit(request, "viewer")
        shown = {"username": account.name, "role": account.role} if account else {}
        return json_answer(msgspec.json.encode(shown))
