"""Rebuild a table of SQLite that ALTER TABLE cannot change: copied inside the database, with all that hangs on it."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from engine.table_change import quoted
from engine.tables import operations_on

_NEW = "millstream_new"


def rebuild(
    connection: Connection, table: str, *, without: str = "", changed: sa.Column[Any] | None = None, value: str = ""
) -> None:
    """Drop the column `without`, or give `changed` its type and each row the SQL `value`; within a transaction.

    Views on the table, triggers, indexes, and the highest serial that was ever given are as before.
    """
    order = [column["name"] for column in sa.inspect(connection).get_columns(table)]
    hanging = _hanging(connection, table)
    serial = _highest(connection, table)
    connection.exec_driver_sql("PRAGMA legacy_alter_table = ON")  # views need not know of the copy
    try:
        for kind, name, _ in hanging:
            connection.exec_driver_sql(f"DROP {kind} {quoted(connection, name)}")
        if changed is not None:
            _convert(connection, table, changed, value)
            order = [_NEW if name.lower() == changed.name.lower() else name for name in order]
        _copy(connection, table, without, changed, [name for name in order if name != without])
        for _, _, sql in hanging:
            connection.exec_driver_sql(sql)
    finally:
        connection.exec_driver_sql("PRAGMA legacy_alter_table = OFF")
    if serial is not None:
        connection.exec_driver_sql("DELETE FROM sqlite_sequence WHERE name = ?", (table,))
        connection.exec_driver_sql("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table, serial))


def _convert(connection: Connection, table: str, changed: sa.Column[Any], value: str) -> None:
    where, old = quoted(connection, table), quoted(connection, changed.name)
    operations_on(connection).add_column(table, sa.Column(_NEW, changed.type, nullable=True))
    connection.exec_driver_sql(f"UPDATE {where} SET {_NEW} = {value} WHERE {old} IS NOT NULL")  # noqa: S608


def _copy(connection: Connection, table: str, without: str, changed: sa.Column[Any] | None, order: list[str]) -> None:
    found = sa.inspect(connection).get_check_constraints(table)
    checks = tuple(sa.CheckConstraint(check["sqltext"], check["name"]) for check in found)
    counted = _highest(connection, table) is not None
    with operations_on(connection).batch_alter_table(
        table, recreate="always", partial_reordering=[tuple(order)], table_args=checks,
        table_kwargs={"sqlite_autoincrement": True} if counted else {}, reflect_kwargs={"resolve_fks": False},
    ) as batch:  # fmt: skip
        batch.drop_column(without or str(changed.name if changed is not None else ""))
        if changed is not None:
            batch.alter_column(_NEW, new_column_name=changed.name)


def _highest(connection: Connection, table: str) -> int | None:
    """Return the highest serial ever given; None: the table does not count its rows."""
    [made] = connection.exec_driver_sql(
        "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?", (table,)
    ).all()
    if "AUTOINCREMENT" not in made[0].upper():
        return None
    return int(connection.exec_driver_sql("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).scalar() or 0)


def _hanging(connection: Connection, table: str) -> list[tuple[str, str, str]]:
    """Return kind, name and text of the table's triggers and indexes."""
    wanted = "tbl_name = ? AND type IN ('index', 'trigger') AND sql IS NOT NULL"
    found = connection.exec_driver_sql(f"SELECT type, name, sql FROM sqlite_master WHERE {wanted}", (table,))  # noqa: S608
    return [(kind, name, sql) for kind, name, sql in found.all()]
