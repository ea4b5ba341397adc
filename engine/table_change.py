"""One step of the way from the tables that a database has to those that a flow declares."""

import msgspec
from sqlalchemy.engine import Connection

KEPT = frozenset({"drop_column", "drop_table"})


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


def count(connection: Connection, sql: str) -> int:
    """Return the number that a statement answers."""
    return int(connection.exec_driver_sql(sql).scalar() or 0)
