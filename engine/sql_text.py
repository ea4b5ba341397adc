"""Read the SQL of a query without running it: its one statement, its parameters, and what must not be in it."""

import re
from collections.abc import Iterator

import msgspec

_PARTS = re.compile(
    r"""(?P<text>'(?:[^']|'')*')|(?P<name>"(?:[^"]|"")*"|`(?:[^`]|``)*`)|(?P<comment>--[^\n]*|/\*.*?\*/)"""
    r"""|(?P<open>['"`]|/\*)|(?P<code>[^'"`/-]+|.)""",
    re.DOTALL,
)
_PARAMETER = re.compile(r"(?<![:\w\\]):([A-Za-z_]\w*)(?![:\w])", re.ASCII)
_WORD = re.compile(r"[A-Za-z_]\w*", re.ASCII)
READS = frozenset({"select", "with", "values"})
WRITES = READS | {"insert", "update", "delete", "replace"}


class SqlText(msgspec.Struct, frozen=True):
    """One SQL statement: `text` has its literals' colons escaped as SQLAlchemy wants it."""

    text: str
    parameters: frozenset[str]
    words: tuple[str, ...]
    problems: tuple[str, ...]


def _parts(sql: str) -> Iterator[tuple[str, str]]:
    for found in _PARTS.finditer(sql):
        yield str(found.lastgroup), found.group()


def _problems(sql: str, code: str, words: list[str], allowed: frozenset[str]) -> Iterator[str]:
    if "{{" in sql or "{%" in sql or "${" in sql:
        yield "no template inside SQL: bind a parameter (:name) instead"
    if "\\" in sql:
        yield "no backslash in SQL: databases read it differently"
    if any(kind == "open" for kind, _ in _parts(sql)):
        yield "a closed quote or comment"
    if ";" in code.rstrip().removesuffix(";"):
        yield "one statement; got a ';' inside"
    if any(kind == "comment" and part.startswith(("/*!", "/*+", "/*M!")) for kind, part in _parts(sql)):
        yield "no comment that the database runs"
    if not words or words[0] not in allowed:
        yield f"a statement that begins with {', '.join(sorted(allowed))}; got '{words[0] if words else ''}'"
    if "password_hash" in words:
        yield "no password_hash: passwords never leave the accounts"


def read_sql(sql: str, allowed: frozenset[str]) -> SqlText:
    """Return the statement with its parameters, and everything that is wrong with it, each as what is expected."""
    parts = list(_parts(sql))
    code = "".join(part if kind == "code" else " " for kind, part in parts)
    named = "".join(part if kind in ("code", "name") else " " for kind, part in parts)
    words = [word.lower() for word in _WORD.findall(named)]
    text = "".join(part if kind == "code" else part.replace(":", "\\:") for kind, part in parts)
    text = text.rstrip().removesuffix(";") if code.rstrip().endswith(";") else text
    parameters = frozenset(_PARAMETER.findall(code))
    return SqlText(text, parameters, tuple(words), tuple(_problems(sql, code, words, allowed)))
