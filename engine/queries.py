"""The `queries:` of a flow: a table with filters, SQL with bound parameters, or the kept value of a channel."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from engine.errors import SpecFault, SpecProblem, did_you_mean
from engine.field_docs import wanted
from engine.model_faults import shown
from engine.parameters import Parameter, ScalarType
from engine.paths import check_path, path_parameters
from engine.quantities import Duration
from engine.query_faults import exactly_one, said, unfit, unknown_name
from engine.sql_text import READS, WRITES, SqlText, read_sql

if TYPE_CHECKING:
    from engine.flow import Flow

METHODS = ("get", "post", "put", "patch", "delete")
PAGING = ("limit", "before_id", "since", "until")
INSERTED = "inserted_id"
_INNER = ("method", "path")
SCALARS: dict[str, ScalarType] = {
    "serial": "int", "int": "int", "number": "number", "bool": "bool", "text": "text", "time": "time", "date": "date",
}  # fmt: skip
Allow = Literal["anyone", "viewer", "employee", "manager", "admin"]
Bound = Literal["account.name", "account.role", "now", "today"]


def hidden(column: str) -> bool:
    """Tell whether a column is never shown: the engine's own (`_event`) and passwords."""
    return column.startswith("_") or column == "password_hash"


class QuerySpec(BaseModel):
    """One query: where it is served, who may call it, and (in the subclasses) what it answers."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=wanted())
    kind: ClassVar[str] = ""

    method: Literal["get", "post", "put", "patch", "delete"]
    """The HTTP method; in a flow it is the option's name, with the path behind it."""
    path: str
    """The path, with parameters as in `/cars/{id}`."""
    allow: Allow = "employee"
    """The least role that may call it: viewer, employee, manager, admin; or anyone."""
    about: str = ""
    """What it answers, for the documentation page."""
    _name: str = PrivateAttr("")

    @property
    def name(self) -> str:
        """Return its name in the flow."""
        return self._name

    @property
    def role(self) -> str | None:
        """Return the least role that may call it; None: anybody."""
        return None if self.allow == "anyone" else self.allow

    @staticmethod
    def parse(name: str, spec: Any) -> "Query":
        """Read one entry of `queries:`; raises SpecFault with every problem."""
        if not isinstance(spec, dict):
            raise SpecFault([SpecProblem((), f"a mapping with a method and its path; got {shown(spec)}")])
        methods, kinds = [m for m in METHODS if m in spec], [kind for kind in _KINDS if kind in spec]
        problems = [*exactly_one("method", methods, METHODS), *exactly_one("kind", kinds, _KINDS)]
        problems += [
            SpecProblem((key,), f"the method with its path, as in get: /cars; got '{key}'")
            for key in _INNER
            if key in spec
        ]
        if problems:
            raise SpecFault([*problems, *_unknown(spec)])
        rest = {key: value for key, value in spec.items() if key != methods[0]}
        try:
            query = _KINDS[kinds[0]].model_validate({"method": methods[0], "path": spec[methods[0]], **rest})
        except ValidationError as fault:
            raise SpecFault(list(said(fault, _KINDS[kinds[0]], methods[0]))) from None
        query._name = name
        return query

    def check(self, flow: "Flow") -> Iterator[SpecProblem]:
        """Yield what is wrong with the query in its flow."""
        for message in check_path(self.path):
            yield SpecProblem((self.method,), message)
        if self.method != "get" and self.kind != "sql":
            yield SpecProblem((self.method,), f"get; only a query with sql takes {self.method}")


class ChannelQuery(QuerySpec):
    """Answers the value that a channel keeps."""

    kind: ClassVar[str] = "channel"

    channel: str = Field(pattern=r"^[^.]+\.[^.]+$")
    """The channel and its event: `dashboard.stats_update`; the sink of the event keeps its last value."""
    empty: Any = None
    """The answer while nothing is kept yet."""

    @property
    def source(self) -> tuple[str, str]:
        """Return the channel's name and the event's."""
        channel, _, event = self.channel.partition(".")
        return channel, event

    def check(self, flow: "Flow") -> Iterator[SpecProblem]:
        """Yield what is wrong: an unknown channel or event, or one that is not kept."""
        yield from super().check(flow)
        for name in path_parameters(self.path):
            yield SpecProblem((self.method,), f"a path without parameters; got '{name}'")
        name, event = self.source
        if name not in flow.channels:
            yield unknown_name("channel", ("channel",), name, flow.channels)
            return
        sinks = [node.component for node in flow.nodes.values() if node.kind == "channel"]
        pushed = {getattr(sink, "event", ""): sink for sink in sinks if getattr(sink, "name", "") == name}
        if event not in pushed:
            yield unknown_name(f"event of channel '{name}'", ("channel",), event, pushed)
        elif getattr(pushed[event], "keep", None) != "last":
            yield SpecProblem(("channel",), f"an event that is kept; '{event}' is pushed without keep: last")


class TableQuery(QuerySpec):
    """Answers the rows of a table, newest first, in pages."""

    kind: ClassVar[str] = "table"

    table: str
    """The table or view of the flow."""
    filters: tuple[str, ...] = ()
    """The columns that a call may ask for by value."""
    where: dict[str, Any] = {}
    """Columns with the value (or a list of values) that a row must have in any case."""
    newest: str = "id"
    """The whole-number column that grows with every row: rows come in its order, newest first, and pages hang on it."""
    time: str | None = None
    """The column that `since` and `until` look at, and whose order a call with them gets; default `created_at`."""
    limit: int = Field(100, ge=1)
    """How many rows a call without `limit` gets."""
    most: int = Field(1000, ge=1, le=100_000)
    """How many rows a call can get."""

    def time_column(self, columns: Iterable[str]) -> str | None:
        """Return the column that `since` and `until` look at."""
        return self.time or ("created_at" if "created_at" in columns else None)

    def check(self, flow: "Flow") -> Iterator[SpecProblem]:
        """Yield what is wrong: unknown table or columns, and values that no row can have."""
        yield from super().check(flow)
        for name in path_parameters(self.path):
            if name not in self.filters:
                yield SpecProblem((self.method,), f"path parameters that are filters; got '{name}'")
        if self.limit > self.most:
            yield SpecProblem(("limit",), f"at most {self.most} (most); got {self.limit}")
        if self.table not in flow.tables:
            yield unknown_name("table", ("table",), self.table, flow.tables)
            return
        columns = {name: _column_type(flow, self.table, name) for name in flow.tables[self.table].columns}
        if columns:
            yield from self._check_columns(columns)

    def _check_columns(self, columns: dict[str, str]) -> Iterator[SpecProblem]:
        uses = [(("newest",), self.newest), *((("filters", i), name) for i, name in enumerate(self.filters))]
        uses += [(("where", name), name) for name in self.where] + ([(("time",), self.time)] if self.time else [])
        for where, name in uses:
            if name not in columns or hidden(name):
                yield unknown_name(
                    f"column of table '{self.table}'", where, name, [c for c in columns if not hidden(c)]
                )
            elif where[0] in ("filters", "where") and (columns[name] not in SCALARS or name in PAGING):
                yield SpecProblem(where, f"a column that can be compared; '{name}' is {columns[name]}")
        yield from self._check_types(columns)

    def _check_types(self, columns: dict[str, str]) -> Iterator[SpecProblem]:
        if columns.get(self.newest, "int") not in ("int", "serial"):
            yield SpecProblem(("newest",), f"a whole-number column; '{self.newest}' is {columns[self.newest]}")
        if self.time and columns.get(self.time, "time") not in ("time", "date"):
            yield SpecProblem(("time",), f"a time or date column; '{self.time}' is {columns[self.time]}")
        for name, value in self.where.items():
            for one in value if isinstance(value, list) else [value]:
                kind = SCALARS.get(columns.get(name, ""))
                if one is not None and kind and (expected := unfit(kind, one)):
                    yield SpecProblem(("where", name), f"{expected}; got {shown(one)}")


class SqlQuery(QuerySpec):
    """Answers what one SQL statement finds; one that is not `get` may change rows, in a transaction."""

    kind: ClassVar[str] = "sql"

    sql: str
    """One statement; `:name` is a bound parameter, and nothing else is ever put into it."""
    params: dict[str, Parameter] = {}
    """The parameters that a call gives, by path, query string or JSON body."""
    set: dict[str, Bound] = {}
    """Parameters that a call cannot give: `account.name`, `account.role`, `now`, `today`."""
    cache: Duration | None = Field(None, gt=0)
    """How long an answer may be given again to the same call."""
    one: bool | None = None
    """Answer one object rather than an array; where nothing is found, 404."""
    status: int = Field(200, ge=200, le=299)
    """The status of an answer."""
    conflict: str = "it exists already"
    """What a call that breaks a uniqueness is told, with 409."""
    missing: str | None = None
    """What a call that finds or changes no row is told: 404 with a path parameter, or `one`; else 409."""
    returns: str | None = None
    """A select that runs after the change; its first row is the answer. `:inserted_id` is the new row's serial."""
    columns: dict[str, Literal["int", "number", "text", "bool", "time", "date", "json"]] = {}
    """What columns of the answer are, where it is not a column of that name in the flow's tables."""
    most: int = Field(10_000, ge=1, le=100_000)
    """How many rows an answer has at most; one that was cut says so in the header `Millstream-Cut`."""
    timeout: Duration = Field(10_000_000, gt=0)
    """How long the database may take; 504 after that."""
    zone: str = "UTC"
    """The time zone in which `today` is meant, such as Asia/Seoul."""

    @field_validator("zone")
    @classmethod
    def _is_a_zone(cls, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise PydanticCustomError("zone", "a time zone like Europe/Berlin") from None
        return zone

    @property
    def writes(self) -> bool:
        """Tell whether it may change rows."""
        return self.method != "get"

    def statement(self) -> SqlText:
        """Return the statement, read."""
        return read_sql(self.sql, WRITES if self.writes else READS)

    def returning(self) -> SqlText | None:
        """Return the select that runs after a change, read."""
        return read_sql(self.returns, READS) if self.returns is not None else None

    def check(self, flow: "Flow") -> Iterator[SpecProblem]:
        """Yield what is wrong: the SQL, parameters that are not declared or not used, options that do not fit."""
        yield from super().check(flow)
        texts = {"sql": self.statement()} | ({"returns": after} if (after := self.returning()) else {})
        for option, text in texts.items():
            yield from (SpecProblem((option,), message) for message in text.problems)
            known = {*self.params, *self.set, *({INSERTED} if option == "returns" else ())}
            for name in sorted(text.parameters - known):
                yield unknown_name("parameter (in params or set)", (option,), name, known)
        used = frozenset[str]().union(*(text.parameters for text in texts.values()))
        for option, names in (("params", self.params), ("set", self.set)):
            yield from (
                SpecProblem((option, n), f"a parameter that the SQL uses as :{n}") for n in names if n not in used
            )
        yield from self._check_options()

    def _check_options(self) -> Iterator[SpecProblem]:
        for name in path_parameters(self.path):
            if name not in self.params:
                yield unknown_name("parameter in params, as it is in the path", (self.method,), name, self.params)
        for name in self.set:
            if name in self.params or name == INSERTED:
                yield SpecProblem(("set", name), f"a name of its own; '{name}' is taken")
            if self.set[name].startswith("account.") and self.role is None:
                yield SpecProblem(("set", name), "a role in allow: there is no account where anyone may call")
        if self.cache is not None and self.writes:
            yield SpecProblem(("cache",), f"get; an answer to {self.method} cannot be given again")
        if self.returns is not None and not self.writes:
            yield SpecProblem(("returns",), "a statement that changes rows; get answers its own rows")


Query = TableQuery | ChannelQuery | SqlQuery
_KINDS: dict[str, type[TableQuery] | type[ChannelQuery] | type[SqlQuery]] = {
    "table": TableQuery, "channel": ChannelQuery, "sql": SqlQuery,
}  # fmt: skip


def _unknown(spec: dict[str, Any]) -> Iterator[SpecProblem]:
    fields = {name for model in _KINDS.values() for name in model.model_fields} - {*_INNER}
    known = sorted(fields | {*METHODS, *_INNER})
    for key in spec:
        if key not in known:
            yield SpecProblem((key,), f"one of {', '.join(known)}; got '{key}'", did_you_mean(str(key), known))


def _column_type(flow: "Flow", table: str, name: str) -> str:
    """Return a column's type; that of a reference is its target's."""
    column = flow.tables[table].columns[name]
    target = flow.tables.get(column.references[0]) if column.references else None
    if target is None or column.references is None or column.references[1] not in target.columns:
        return column.type
    found = target.columns[column.references[1]].type
    return "int" if found == "serial" else found
