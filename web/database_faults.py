"""What a client is told when the database refuses: by what the database says, never with its text."""

import re
from typing import Any

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from engine.refusal import Refusal, busy

_MYSQL_UNIQUE = {1022, 1062, 1169, 1586}
_MYSQL_REFERENCE = {1216, 1217, 1451, 1452}
_MYSQL_VALUE = {1048, 1264, 1265, 1292, 1366, 1406, 3819, 4025}
_MYSQL_AUTHOR = {1054, 1064, 1146, 1305, 1364, 1142}
_SQLITE_AUTHOR = re.compile(r"no such|syntax error|has no column|ambiguous column|unrecognized token|incomplete input")


def is_conflict(error: BaseException) -> bool:
    """Tell whether a change broke a uniqueness."""
    original: Any = getattr(error, "orig", None)
    name, state = getattr(original, "sqlite_errorname", ""), getattr(original, "sqlstate", "")
    return (
        name in ("SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY")
        or state == "23505"
        or _number(original) in _MYSQL_UNIQUE
    )


def refusal_of(error: SQLAlchemyError) -> Refusal | None:
    """Return the refusal that a database error stands for; None: the statement is at fault, not the request."""
    if is_conflict(error):
        return Refusal(409, "conflict", "it exists already")
    original: Any = getattr(error, "orig", None)
    number = _number(original)
    if number in _MYSQL_AUTHOR or (isinstance(error, OperationalError) and _SQLITE_AUTHOR.search(str(original))):
        return None
    if number in _MYSQL_REFERENCE or getattr(original, "sqlite_errorname", "") == "SQLITE_CONSTRAINT_FOREIGNKEY":
        return Refusal(
            422, "invalid_reference", "expected values that refer to rows which exist, and no row in use removed"
        )
    if number in _MYSQL_VALUE or isinstance(error, (DataError, IntegrityError)):
        return Refusal(422, "invalid_value", "expected values that fit their columns")
    if isinstance(error, (OperationalError, InterfaceError, PoolTimeout)) or _disconnected(error):
        return busy("the database is away or busy; try again")
    return None


def _number(original: Any) -> int:
    arguments = getattr(original, "args", ())
    return arguments[0] if arguments and isinstance(arguments[0], int) else 0


def _disconnected(error: SQLAlchemyError) -> bool:
    return isinstance(error, DBAPIError) and error.connection_invalidated
