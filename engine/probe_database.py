"""The database, tried without effect: its login, what its tables have beside the declaration, what we may do there."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec
import pymysql
import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from engine.database import database_url, describe, open_database
from engine.errors import EnvironmentFault
from engine.probe_files import writable
from engine.problem import Problem
from engine.table_change import TableChange
from engine.table_changes import changes_on

MEMORY = ":memory:"
_FAILURES = (exc.SQLAlchemyError, OSError, pymysql.Error, sqlite3.Error)
_LOGIN, _DENIED = {1045, 1698}, {1044, 1142, 1143, 1227, 1370}
_SQL = {1054, 1064, 1128, 1146, 1305, 1582, 1630}


class DatabaseProbe:
    """One connection for the whole run, used by one at a time; `fault` is why there is none."""

    def __init__(self, address: str, patience: float, named: str = "MILLSTREAM_DATABASE") -> None:
        self._address, self._patience, self._named = address, patience, named
        self._lock = asyncio.Lock()
        self._engine: AsyncEngine | None = None
        self._fault: list[Problem] | None = None

    async def fault(self) -> list[Problem]:
        """Return why there is no connection to be had, if so."""
        async with self._lock:
            if self._fault is None:
                self._fault = await self._open()
            return self._fault

    async def _open(self) -> list[Problem]:
        try:
            url = database_url(self._address)
        except EnvironmentFault as fault:
            return [Problem("address", "", f"{self._named}: {fault}")]
        if url.get_backend_name() == "sqlite":
            return self._open_file(Path(url.database or MEMORY))
        self._engine = open_database(self._address)
        shown = url.render_as_string(hide_password=True)
        try:
            async with asyncio.timeout(self._patience), self._engine.connect():
                return []
        except TimeoutError:
            return [Problem("unreachable", "", f"a database at {shown}; no answer within {self._patience:g} s")]
        except _FAILURES as error:
            return [_refused(shown, error)]

    def _open_file(self, path: Path) -> list[Problem]:
        """Open an SQLite file for reading; none is made where none is."""
        if str(path) != MEMORY and path.exists():
            log = path.with_name(f"{path.name}-wal")  # where nobody has the file open, reading would make one
            read = "mode=ro" if log.exists() else "mode=ro&immutable=1"
            self._engine = create_async_engine(f"sqlite+aiosqlite:///file:{path.absolute()}?{read}&uri=true")
        return [] if str(path) == MEMORY else writable(path)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection | None]:
        """Give the connection in a transaction that is rolled back; None where there is no database yet."""
        if await self.fault() or self._engine is None:
            yield None
            return
        async with self._lock, asyncio.timeout(self._patience), self._engine.connect() as connection:
            transaction = await connection.begin()
            try:
                yield connection
            finally:
                with suppress(*_FAILURES):
                    await transaction.rollback()

    async def drift(
        self, metadata: sa.MetaData, views: Mapping[str, str], deployed: sa.MetaData | None
    ) -> list[TableChange]:
        """Return what the database has otherwise than a flow declares, and what of the deployed version is gone."""
        async with self.connection() as connection:
            if connection is None:
                return []
            found = await connection.run_sync(changes_on, metadata, views, deployed, [])
        return [change for change in found if _drifts(change, deployed)]

    async def missing(self, names: Iterable[str]) -> set[str]:
        """Return the tables of these that are not there yet."""
        async with self.connection() as connection:
            if connection is None:
                return set(names)
            there = await connection.run_sync(
                lambda c: {*sa.inspect(c).get_table_names(), *sa.inspect(c).get_view_names()}
            )
        return set(names) - there

    async def _first_column(self, table: str) -> str | None:
        """Return the name of a table's first column; None where the table is not there."""
        async with self.connection() as connection:
            if connection is None:
                return None
            try:
                columns = await connection.run_sync(lambda c: sa.inspect(c).get_columns(table))
            except exc.NoSuchTableError:
                return None
        return str(columns[0]["name"]) if columns else None

    async def may_ask(self, statement: sa.Executable, option: str) -> list[Problem]:
        """Try a statement that changes nothing, such as one with EXPLAIN; tell also why there is no database."""
        if fault := await self.fault():
            return [msgspec.structs.replace(one, option=option) for one in fault]
        error = await self.refusal(statement)
        problem = said(error, option) if error else None
        return [problem] if problem else []

    async def refusal(self, statement: sa.Executable) -> BaseException | None:
        """Return why the database refuses a statement, which is rolled back; None where it takes it."""
        try:
            async with self.connection() as connection:
                if connection is not None:
                    await connection.execute(statement)
        except _FAILURES as error:
            return error
        return None

    async def may_write(self, table: str, option: str, *, change: bool) -> list[Problem]:
        """Try whether rows may be added to a table, and with `change` be changed; no row is."""
        first = await self._first_column(table)
        if first is None or self._engine is None:
            return []
        quote = self._engine.dialect.identifier_preparer.quote
        name, column = quote(table), quote(first)
        tried = {"add rows to": f"INSERT INTO {name} ({column}) SELECT {column} FROM {name} WHERE 1 = 0"}  # noqa: S608
        if change:
            tried["change rows of"] = f"UPDATE {name} SET {column} = {column} WHERE 1 = 0"  # noqa: S608
        found = []
        for what, statement in tried.items() if self._engine.dialect.name != "sqlite" else ():
            error = await self.refusal(sa.text(statement))
            if error is not None and denies(error):
                found.append(Problem("permission", option, f"the right to {what} table '{table}'; {describe(error)}"))
        return found

    async def close(self) -> None:
        """Close the connection."""
        if self._engine is not None:
            await self._engine.dispose()


def _drifts(change: TableChange, deployed: sa.MetaData | None) -> bool:
    """Tell whether a change is more than what a deploy adds."""
    if change.refused or change.kind == "type":
        return True
    table = deployed.tables.get(change.table) if deployed is not None else None
    return table is not None and (
        change.kind == "table" or (change.kind == "column" and change.column in table.columns)
    )


def said(error: BaseException, option: str) -> Problem | None:
    """Return what a refused query means; None where the values that were tried with it may be to blame."""
    if denies(error):
        return Problem("permission", option, f"the right to ask this; {describe(error)}")
    return (
        Problem("query-fails", option, f"SQL that the database takes; {describe(error)}") if _about_sql(error) else None
    )


def _about_sql(error: BaseException) -> bool:
    number, text = _number(error), describe(error)
    return number in _SQL or str(number).startswith("42") or text.startswith("no such ") or "syntax error" in text


def _number(error: BaseException | None) -> int | str | None:
    """Return the number, or the state, that a database gives its errors."""
    while error is not None:
        if isinstance(error, pymysql.Error) and error.args and isinstance(error.args[0], int):
            return error.args[0]
        if state := getattr(error, "sqlstate", None):
            return str(state)
        error = getattr(error, "orig", None) or error.__cause__
    return None


def denies(error: BaseException) -> bool:
    """Tell whether an error says that we may not do it."""
    number = _number(error)
    return number in _DENIED or number == "42501"


def _refused(shown: str, error: BaseException) -> Problem:
    number = _number(error)
    if number in _LOGIN or str(number).startswith("28"):
        return Problem("login", "", f"a database that takes our credentials; {describe(error)} ({shown})")
    if denies(error):
        return Problem("permission", "", f"a database that we may use; {describe(error)} ({shown})")
    return Problem("unreachable", "", f"a database at {shown}; {describe(error)}")
