"""API keys: by which devices and programs send, each with a role, revocable, stored as a hash only."""

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256

import msgspec
from sqlalchemy import Column, Integer, String, Table, delete, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from engine.errors import UsageFault, did_you_mean
from engine.rows import UtcTime
from web.accounts import METADATA, Account, checked_name, checked_role, record
from web.tokens import invalid_token

PREFIX = "msk_"
KEPT_SECONDS = 2.0
MOST_KEPT = 10_000
KEYS = Table(
    "millstream_api_keys", METADATA,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("name", String(150), nullable=False, unique=True),
    Column("digest", String(64), nullable=False, unique=True),
    Column("role", String(20), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    mysql_charset="utf8mb4", mysql_collate="utf8mb4_bin",
)  # fmt: skip


class ApiKey(msgspec.Struct, frozen=True):
    """A key as it is listed; the key itself is shown once, when it is made."""

    name: str
    role: str
    created_at: datetime


def digest_of(key: str) -> str:
    """Return what is stored of a key: 256 random bits need no slow hash."""
    return sha256(key.encode(errors="surrogatepass")).hexdigest()


def sender_name(name: str) -> str:
    """Return the name that the events of a key have as `meta.account`; no account can have it."""
    return f"key:{name}"


async def add_key(engine: AsyncEngine, name: str, role: str, by: str = "") -> str:
    """Make a key and return it; raises UsageFault for a name or role that cannot be, or a name that is taken."""
    kept, role = checked_name(name), checked_role(role)
    key = PREFIX + secrets.token_urlsafe(32)
    row = {"name": kept, "digest": digest_of(key), "role": role, "created_at": datetime.now(UTC)}
    try:
        async with engine.begin() as connection:
            await connection.execute(insert(KEYS).values(row))
            await record(connection, sender_name(kept), "key added", f"role {role} by {by}")
    except IntegrityError:
        raise UsageFault(f"a name that is not taken; there is a key '{kept}'") from None
    return key


async def list_keys(engine: AsyncEngine) -> list[ApiKey]:
    """Return all keys by name."""
    async with engine.connect() as connection:
        rows = await connection.execute(select(KEYS).order_by(KEYS.c.name))
        return [ApiKey(row.name, row.role, row.created_at) for row in rows]


async def remove_key(engine: AsyncEngine, name: str, by: str = "") -> None:
    """Revoke a key: within seconds nothing is taken under it. Raises UsageFault for an unknown name."""
    kept = checked_name(name)
    async with engine.begin() as connection:
        found = await connection.execute(delete(KEYS).where(KEYS.c.name == kept))
        if not found.rowcount:
            names = [str(row.name) for row in await connection.execute(select(KEYS.c.name))]
            raise UsageFault(f"a key's name; got '{name[:80]}' {did_you_mean(kept, names)}".rstrip())
        await record(connection, sender_name(kept), "key removed", f"by {by}")


class KeyRing:
    """Knows the keys; what it has looked up, or not found, it believes for two seconds."""

    def __init__(self, engine: AsyncEngine, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine, self._clock = engine, clock
        self._kept: OrderedDict[str, tuple[float, Account | None]] = OrderedDict()

    async def account(self, key: str) -> Account:
        """Return whose key it is, with its role; raises Refusal 401."""
        digest = digest_of(key)
        until, account = self._kept.get(digest, (0.0, None))
        if until <= self._clock():
            account = await self._found(digest)
            self._kept[digest] = (self._clock() + KEPT_SECONDS, account)
            self._kept.move_to_end(digest)
            if len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        if account is None:
            raise invalid_token()
        return account

    async def _found(self, digest: str) -> Account | None:
        async with self._engine.connect() as connection:
            row = (await connection.execute(select(KEYS).where(KEYS.c.digest == digest))).first()
        return None if row is None else Account(0, sender_name(row.name), row.role, row.created_at)
