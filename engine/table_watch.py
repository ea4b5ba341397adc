"""Watch the live tables of one flow: what changes in the database goes to the table log, its version into the inbox."""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from engine import inbox_file
from engine.arrival import Arrival, Intake
from engine.database import classified, place
from engine.errors import MillstreamError
from engine.live_table import Changes, LiveTable
from engine.table_log import TableLogFile
from engine.table_reading import SqliteReading, TableReading, TooLarge
from engine.table_sums import SummedReading

EVERY, LONGEST, AGAIN, PATIENCE = 0.25, 0.75, 1.0, 30.0
SHARE = 4
"""A look that finds nothing takes a fifth of the time at most, unless that is longer than LONGEST: the pause is four
times as long."""
TRIM_EVERY = 60.0
READINGS: dict[str, Callable[..., TableReading]] = {
    "sqlite": SqliteReading, "mysql": SummedReading, "postgresql": SummedReading,
}  # fmt: skip
log = structlog.get_logger()


class TableWatch:
    """Looks into the database for as long as `run` runs; `known` is set when the inbox has a version to begin with."""

    def __init__(
        self, flow: str, tables: Iterable[LiveTable], metadata: sa.MetaData, engine: AsyncEngine, folder: Path,
        intake: Intake,
    ) -> None:  # fmt: skip
        self._flow, self._tables, self._metadata, self._engine = flow, list(tables), metadata, engine
        self._folder, self._intake = folder, intake
        self.known = asyncio.Event()
        self._away = ""
        self._trimmed = time.monotonic()

    async def run(self) -> None:
        """Look until cancelled; a database that is away is waited for, with the last known rows."""
        self._log = await asyncio.to_thread(TableLogFile, self._folder)
        try:
            while True:
                reading = await asyncio.to_thread(self._reading)
                try:
                    await self._follow(reading)
                finally:
                    with suppress(sa.exc.SQLAlchemyError, OSError):
                        await reading.close()
                await asyncio.sleep(AGAIN)
        finally:
            await asyncio.to_thread(self._log.close)
            await self._engine.dispose()

    def _reading(self) -> TableReading:
        tables = {live: self._metadata.tables[live.name] for live in self._tables}
        return READINGS[self._engine.dialect.name](self._engine, tables, self._log.rows(self._log.head()))

    async def _follow(self, reading: TableReading) -> None:
        """Look again and again until the database, or the inbox, is away."""
        try:
            while True:
                began = time.monotonic()
                async with asyncio.timeout(PATIENCE):
                    changes = await self._look(reading)
                took = time.monotonic() - began
                await self._publish(changes)
                self._tell("")
                await self._trim()
                await asyncio.sleep(EVERY if changes else max(EVERY, min(SHARE * took, LONGEST)))
        except TooLarge as fault:
            self._tell(str(fault))
        except TimeoutError:
            self._tell(f"{place(self._engine)}: no answer within {PATIENCE:g} s")
        except (sa.exc.SQLAlchemyError, sqlite3.Error, OSError) as fault:
            self._tell(str(classified(fault, self._engine)))
        except (ValueError, TypeError) as fault:
            self._tell(f"rows that fit their columns; {fault}")
        except MillstreamError as fault:
            self._tell(str(fault))

    async def _look(self, reading: TableReading) -> Changes:
        found = await reading.look()
        new = {live.shape: found.get(live.shape, {}) for live in self._tables if not self._log.first(live.shape)}
        return new | {shape: rows for shape, rows in found.items() if rows}

    async def _publish(self, changes: Changes) -> None:
        """Store what changed and put its version into the inbox; one that was cut off there goes first."""
        version = self._log.unmarked()
        if changes:
            version = await asyncio.to_thread(self._log.add, changes)
        if version:
            ids = await self._intake.append([Arrival(str(version).encode())])
            self._log.mark(version, int.from_bytes(ids[0][8:], "big"))
        self.known.set()

    def _tell(self, away: str) -> None:
        """Say once that the rows cannot be had, and once that they can again."""
        if away and not self._away:
            log.warning("live tables stay as they are", flow=self._flow, reason=away)
        elif self._away and not away:
            log.info("live tables are followed again", flow=self._flow)
        self._away = away
        if away and self._log.head():
            self.known.set()
        self._intake.state("away" if away else "live", away)

    async def _trim(self) -> None:
        if time.monotonic() > self._trimmed + TRIM_EVERY:
            self._trimmed = time.monotonic()
            await asyncio.to_thread(self._log.trim, await asyncio.to_thread(oldest, self._folder))


def oldest(folder: Path) -> int:
    """Return the offset of the oldest event that the inbox of a flow still holds; 0 where it cannot be read."""
    with suppress(MillstreamError):
        connection = inbox_file.open_readable(folder / "inbox.db")
        try:
            return inbox_file.oldest(connection)
        finally:
            connection.close()
    return 0
