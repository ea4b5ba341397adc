"""What SQLite must know of a table to choose among its indexes: it has to be told to look, others do by themselves."""

import asyncio

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from engine.database import transaction
from engine.errors import EventFault, Unavailable

EVERY = 3600.0  # seconds
LOOKS = 1_000  # entries of each index: milliseconds, however large the table is
log = structlog.get_logger()


async def take_statistics(engine: AsyncEngine) -> None:
    """Let SQLite look at all tables, in a short transaction of its own; raises Unavailable."""
    if engine.dialect.name == "sqlite":
        async with transaction(engine.execution_options(begin="IMMEDIATE")) as connection:
            await connection.exec_driver_sql(f"PRAGMA analysis_limit = {LOOKS}")
            await connection.exec_driver_sql("ANALYZE")


async def keep_statistics(engine: AsyncEngine) -> None:
    """Take statistics now and every hour, for ever; a database that is busy is looked at later."""
    while True:
        try:
            await take_statistics(engine)
        except (EventFault, Unavailable) as fault:
            log.warning("no statistics of the database were taken", reason=str(fault))
        await asyncio.sleep(EVERY)
