"""Accounts: the table, the roles, and what an administrator does with them, each step in the audit log."""

import re
import secrets
import unicodedata
from datetime import UTC, datetime
from typing import Any

import msgspec
from argon2 import PasswordHasher
from sqlalchemy import BigInteger, Column, Integer, MetaData, String, Table, delete, func, insert, select, update
from sqlalchemy.engine import Row
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from starlette.concurrency import run_in_threadpool

from engine.errors import UsageFault, did_you_mean
from engine.rows import UtcTime

ROLES = ("viewer", "employee", "manager", "admin")
SHORTEST, LONGEST = 8, 1024
AUDIT_KEPT = 100_000
HASHER = PasswordHasher()
_NAME = re.compile(r"[\w.@+-]{1,64}")
_SERIAL = BigInteger().with_variant(Integer, "sqlite")
METADATA = MetaData()
ACCOUNTS = Table(
    "accounts", METADATA,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("username", String(150), nullable=False, unique=True),
    Column("password_hash", String(255), nullable=False),
    Column("role", String(20), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("failed", Integer, nullable=False, default=0),
    Column("locked_until", UtcTime),
    mysql_charset="utf8mb4", mysql_collate="utf8mb4_bin",
)  # fmt: skip
AUDIT = Table(
    "millstream_audit", METADATA,
    Column("id", _SERIAL, primary_key=True, autoincrement=True),
    Column("time", UtcTime, nullable=False),
    Column("account", String(150), nullable=False),
    Column("action", String(40), nullable=False),
    Column("detail", String(400), nullable=False, default=""),
    mysql_charset="utf8mb4", mysql_collate="utf8mb4_bin",
)  # fmt: skip


class Account(msgspec.Struct, frozen=True):
    """Somebody who may log in."""

    id: int
    name: str
    role: str
    created_at: datetime

    def may(self, role: str | None) -> bool:
        """Tell whether the account has at least this role."""
        return role is None or (self.role in ROLES and ROLES.index(self.role) >= ROLES.index(role))


def account_name(name: str) -> str:
    """Return a name as it is kept: without spaces around, in one Unicode form, in small letters."""
    return unicodedata.normalize("NFKC", name).strip().casefold()


def account_of(row: Row[Any]) -> Account:
    """Return the account of a row of the table."""
    return Account(row.id, row.username, row.role, row.created_at)


async def create_tables(engine: AsyncEngine) -> None:
    """Make the tables of accounts and audit where they are not there yet."""
    async with engine.begin() as connection:
        await connection.run_sync(METADATA.create_all)


async def record(connection: AsyncConnection, account: str, action: str, detail: str = "") -> None:
    """Write one line of the audit log; the oldest lines beyond AUDIT_KEPT go."""
    row = {"time": datetime.now(UTC), "account": account[:150], "action": action, "detail": detail[:400]}
    result = await connection.execute(insert(AUDIT).values(row))
    latest = int(result.inserted_primary_key[0]) if result.inserted_primary_key else 0
    if latest > AUDIT_KEPT and latest % 1000 == 0:
        await connection.execute(delete(AUDIT).where(AUDIT.c.id <= latest - AUDIT_KEPT))


async def audit(engine: AsyncEngine, account: str, action: str, detail: str = "") -> None:
    """Write one line of the audit log in a transaction of its own."""
    async with engine.begin() as connection:
        await record(connection, account, action, detail)


async def list_audit(engine: AsyncEngine, limit: int = 100) -> list[dict[str, Any]]:
    """Return the latest lines of the audit log, newest first."""
    async with engine.connect() as connection:
        rows = await connection.execute(select(AUDIT).order_by(AUDIT.c.id.desc()).limit(limit))
        return [dict(row) for row in rows.mappings()]


async def add_account(engine: AsyncEngine, name: str, role: str, password: str, by: str = "") -> Account:
    """Add an account; raises UsageFault for a name, role or password that cannot be, or a name that is taken."""
    kept = checked_name(name)
    checked_role(role)
    row = {
        "username": kept, "role": role, "created_at": datetime.now(UTC), "failed": 0,
        "password_hash": await _hashed(password),
    }  # fmt: skip
    try:
        async with engine.begin() as connection:
            await connection.execute(insert(ACCOUNTS).values(row))
            await record(connection, kept, "added", f"role {role}{_by(by)}")
            found = await connection.execute(select(ACCOUNTS).where(ACCOUNTS.c.username == kept))
            return account_of(found.one())
    except IntegrityError:
        raise UsageFault(f"a name that is not taken; there is an account '{kept}'") from None


async def list_accounts(engine: AsyncEngine) -> list[Account]:
    """Return all accounts by name."""
    async with engine.connect() as connection:
        return [account_of(row) for row in await connection.execute(select(ACCOUNTS).order_by(ACCOUNTS.c.username))]


async def remove_account(engine: AsyncEngine, name: str, by: str = "") -> None:
    """Remove an account; its tokens stop within seconds. Raises UsageFault for an unknown name or the last admin."""
    async with engine.begin() as connection:
        kept = await _known(connection, name)
        await connection.execute(delete(ACCOUNTS).where(ACCOUNTS.c.username == kept))
        await _keep_an_admin(connection)
        await record(connection, kept, "removed", _by(by))


async def set_password(engine: AsyncEngine, name: str, password: str, by: str = "") -> None:
    """Change a password, end a lock-out and all sessions of the account; raises UsageFault."""
    hashed = await _hashed(password)
    async with engine.begin() as connection:
        kept = await _known(connection, name)
        values = {"password_hash": hashed, "failed": 0, "locked_until": None}
        await connection.execute(update(ACCOUNTS).where(ACCOUNTS.c.username == kept).values(values))
        await record(connection, kept, "password set", _by(by))


async def set_role(engine: AsyncEngine, name: str, role: str, by: str = "") -> None:
    """Change a role; raises UsageFault for an unknown name or role, or the last admin."""
    checked_role(role)
    async with engine.begin() as connection:
        kept = await _known(connection, name)
        await connection.execute(update(ACCOUNTS).where(ACCOUNTS.c.username == kept).values(role=role))
        await _keep_an_admin(connection)
        await record(connection, kept, "role set", f"{role}{_by(by)}")


async def first_admin(engine: AsyncEngine, password: str | None = None) -> str | None:
    """Make the account `admin` where there is none at all; returns its one-time password where none was given."""
    async with engine.connect() as connection:
        if await connection.scalar(select(func.count()).select_from(ACCOUNTS)):
            return None
    made = password or secrets.token_urlsafe(12)
    await add_account(engine, "admin", "admin", made)
    return None if password else made


async def _hashed(password: str) -> str:
    if not SHORTEST <= len(password) <= LONGEST:
        raise UsageFault(f"a password of {SHORTEST} to {LONGEST} characters; got {len(password)}")
    return await run_in_threadpool(HASHER.hash, password)


async def _known(connection: AsyncConnection, name: str) -> str:
    kept = account_name(name)
    names = [str(row.username) for row in await connection.execute(select(ACCOUNTS.c.username))]
    if kept not in names:
        raise UsageFault(f"an account's name; got '{name}' {did_you_mean(kept, names)}".rstrip())
    return kept


async def _keep_an_admin(connection: AsyncConnection) -> None:
    count = select(func.count()).select_from(ACCOUNTS).where(ACCOUNTS.c.role == "admin")
    if not await connection.scalar(count):
        raise UsageFault("at least one account with the role admin to be left")


def checked_name(name: str) -> str:
    """Return a name as it is kept; raises UsageFault for one that cannot be."""
    kept = account_name(name)
    if not _NAME.fullmatch(kept):
        raise UsageFault(f"a name of 1 to 64 letters, digits and . @ + - _; got '{name[:80]}'")
    return kept


def checked_role(role: str) -> str:
    """Return a role; raises UsageFault for one that is none."""
    if role not in ROLES:
        raise UsageFault(f"one of {', '.join(ROLES)}; got '{role}' {did_you_mean(role, ROLES)}".rstrip())
    return role


def _by(name: str) -> str:
    return f" by {name}" if name else ""
