"""One step of the way from the tables that a database has to those that a flow declares."""

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from engine.postgresql import POSTGRESQL
from engine.postgresql_conversion import PREPARE
from engine.postgresql_conversion import conversion as in_postgresql
from engine.table import Column
from engine.table_conversion import Conversion, conversion

KEPT = frozenset({"drop_column", "drop_table"})
_VIEWS = """
SELECT DISTINCT shown.relname FROM pg_depend AS hangs
JOIN pg_rewrite AS rule ON rule.oid = hangs.objid
JOIN pg_class AS shown ON shown.oid = rule.ev_class AND shown.oid <> hangs.refobjid
JOIN pg_attribute AS field ON field.attrelid = hangs.refobjid AND field.attnum = hangs.refobjsubid
WHERE hangs.refobjid = to_regclass(:table) AND field.attname = :column
"""


class TableChange(msgspec.Struct, frozen=True):
    """One change of a table; `text` says it to people.

    `kind` is one of table, column, index, reference, view, type, and drop_ with any of these but type. `name` is that
    of an index or a key. `lossy` says what of the rows is lost; `refused` why it cannot be done.
    What is `early` may be done while the deployed version still writes and reads; the rest when its worker has ended.
    """

    kind: str
    table: str
    column: str
    text: str
    destructive: bool = False
    lossy: str = ""
    refused: str = ""
    name: str = ""
    early: bool = False

    @property
    def optional(self) -> bool:
        """Tell whether the flow runs without it: what is dropped from a flow may stay in the database."""
        return self.kind in KEPT

    def __str__(self) -> str:
        more = self.refused or self.lossy
        return f"{self.text}: {more}" if more else self.text


def quoted(connection: Connection, name: str) -> str:
    """Return a name as it stands in a statement."""
    return connection.dialect.identifier_preparer.quote(name)


def converted(connection: Connection, old: Column, new: Column) -> Conversion:
    """Return how values become those of the new type in a database; PostgreSQL is prepared for it."""
    if connection.dialect.name != POSTGRESQL:
        return conversion(old, new, connection.dialect.name == "mysql")
    connection.exec_driver_sql(PREPARE)
    return in_postgresql(old, new)


def fitting(connection: Connection, way: Conversion, name: str) -> str:
    """Return the condition under which a value that is there fits; NULL, which no value should give, is no."""
    no = "FALSE" if connection.dialect.name == POSTGRESQL else "0"
    return f"COALESCE({way.fits.format(x=quoted(connection, name))}, {no})"


def views_of(connection: Connection, table: str, column: str) -> str:
    """Return the views that keep PostgreSQL from changing a column; other databases have none that do."""
    if connection.dialect.name != POSTGRESQL:
        return ""
    names = connection.execute(sa.text(_VIEWS), {"table": quoted(connection, table), "column": column}).scalars()
    return ", ".join(sorted(names))


def count(connection: Connection, sql: str) -> int:
    """Return the number that a statement answers."""
    return int(connection.exec_driver_sql(sql).scalar() or 0)
