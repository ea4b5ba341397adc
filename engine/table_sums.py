"""Find what changed in live tables on a server: it sums up hashes of 64 parts of a table, and few parts are read.

The sign of MySQL and MariaDB that nothing has changed is `information_schema.TABLES.UPDATE_TIME`: the last commit that
changed the table, in whole seconds, NULL after a restart of the server: trusted when it is two seconds old, and only
for ten seconds. PostgreSQL has none that is up to date (its statistics come a second late): it always sums.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from engine.live_table import Changes, Key, LiveTable
from engine.table_log import encoded
from engine.table_reading import MOST_ROWS, Converter, Found, Known, TooLarge

BUCKETS, PART = 64, 500
TRUSTED = 10.0
SIGNS = sa.text(
    "SELECT TABLE_NAME, UPDATE_TIME, COALESCE(UPDATE_TIME < NOW() - INTERVAL 2 SECOND, 1) "
    "FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME IN :names"
).bindparams(sa.bindparam("names", expanding=True))


class Sums(NamedTuple):
    """How a server sums: its names of functions, and the sign that tells that nothing has changed."""

    quote: str
    bucket: Callable[[Any], sa.ColumnElement[Any]]
    total: Callable[[Any], sa.ColumnElement[Any]]
    signs: sa.TextClause | None = None


def _crc_total(text: Any) -> sa.ColumnElement[Any]:
    """Return the sum of the CRCs of a text and of the text backwards, which together are 64 bits.

    Not their exclusive or: a CRC is linear, so the same change in two rows would cancel out.
    """
    sums = sa.func.sum(sa.func.crc32(text)), sa.func.sum(sa.func.crc32(sa.func.reverse(text)))
    return sa.func.concat(sums[0], ",", sums[1])


SUMS = {
    "mysql": Sums("quote", lambda key: sa.func.crc32(key).op("MOD")(BUCKETS), _crc_total, SIGNS),
    "postgresql": Sums(
        "quote_nullable",
        lambda key: sa.func.mod(sa.func.abs(sa.cast(sa.func.hashtext(key), sa.BigInteger)), BUCKETS),
        lambda text: sa.func.sum(sa.cast(sa.func.hashtextextended(text, 0), sa.Numeric)),
    ),
}
"""By dialect. PostgreSQL's functions are those of its hash indexes; they differ between its versions, so a new server
has all rows read once."""


class SummedReading:
    """The live tables of one flow on a server; `known` has their rows as the log has them, by shape."""

    def __init__(self, engine: AsyncEngine, tables: Mapping[LiveTable, sa.Table], known: Changes) -> None:
        self._engine, self._sums = engine, SUMS[engine.dialect.name]
        self._tables = [_Summed(live, table, known.get(live.shape, {}), self._sums) for live, table in tables.items()]
        self._connection: AsyncConnection | None = None

    async def look(self) -> Changes:
        """Return what changed since the last look; every table is read as of one moment, each of its own."""
        connection = self._connection
        if connection is None:
            connection = self._connection = await self._engine.connect()
        try:
            signs = await self._signs(connection)
            found = {table.shape: await table.look(connection, signs.get(table.name)) for table in self._tables}
            await connection.rollback()
        except BaseException:
            self._connection = None
            await connection.invalidate()
            await connection.close()
            raise
        return found

    async def _signs(self, connection: AsyncConnection) -> dict[str, Any]:
        if self._sums.signs is None:
            return {}
        names = [table.name for table in self._tables]
        return {name: sign for name, *sign in await connection.execute(self._sums.signs, {"names": names})}

    async def close(self) -> None:
        """Let go of the database."""
        if self._connection is not None:
            await self._connection.close()


class _Summed:
    """One table: the sum of each bucket, and the hash of each of its rows."""

    def __init__(self, live: LiveTable, table: sa.Table, logged: Known, sums: Sums) -> None:
        self.shape, self.name, self._convert = live.shape, table.name, Converter(live, table)
        self._bucket = sums.bucket(sa.func.concat_ws(",", *(table.c[name] for name in live.by)))
        quote = getattr(sa.func, sums.quote)
        total = sums.total(sa.func.concat_ws(",", *(quote(table.c[name]) for name in live.types)))
        self._sums_query = sa.select(self._bucket.label("bucket"), sa.func.count(), total).group_by(sa.text("1"))
        self._rows_query = self._convert.query.add_columns(self._bucket.label("_bucket"))
        self._logged: Known | None = logged
        self._sign: Any = None
        self._looked = 0.0
        self._sums: dict[int, Any] = {}
        self._hashes: dict[int, dict[Key, int]] = {}

    async def look(self, connection: AsyncConnection, sign: Any) -> Found:
        """Return what changed; the sums are of before the rows are read, so what changes between is found next time."""
        now = time.monotonic()
        if sign is not None and sign[1] and sign == self._sign and now < self._looked + TRUSTED:
            return {}
        sums = {int(bucket): (count, total) for bucket, count, total in await connection.execute(self._sums_query)}
        if sum(count for count, _ in sums.values()) > MOST_ROWS:
            raise TooLarge(self.name)
        changed = {bucket for bucket in {*sums, *self._sums} if sums.get(bucket) != self._sums.get(bucket)}
        found = await self._read(connection, changed) if changed or self._logged is not None else {}
        self._sign, self._looked, self._sums = sign, now, sums
        return found

    async def _read(self, connection: AsyncConnection, buckets: set[int]) -> Found:
        """Read buckets (the first time: all) and return the rows that differ; None for those that are gone."""
        whole = self._logged is not None
        query = self._rows_query if whole else self._rows_query.where(self._bucket.in_(sorted(buckets)))
        before: Any = self._logged if self._logged is not None else {}
        found: Found = {}
        hashes: dict[int, dict[Key, int]] = {bucket: {} for bucket in buckets}
        async with connection.stream(query) as rows:
            async for part in rows.partitions(PART):
                for *values, bucket in part:
                    self._compare(int(bucket), values, hashes, found)
        there = {key for known in hashes.values() for key in known}
        gone = before if whole else [key for bucket in buckets for key in self._hashes.get(bucket, ())]
        found |= dict.fromkeys(key for key in gone if key not in there)
        self._hashes |= hashes
        self._logged = None
        return found

    def _compare(self, bucket: int, values: list[Any], hashes: dict[int, dict[Key, int]], found: Found) -> None:
        if (key := self._convert.key(values)) is None:
            return
        row = self._convert.row(values)
        hashes.setdefault(bucket, {})[key] = digest = hash(encoded(row))
        if self._logged is not None:
            if self._logged.get(key) != row:
                found[key] = row
        elif self._hashes.get(bucket, {}).get(key) != digest:
            found[key] = row
