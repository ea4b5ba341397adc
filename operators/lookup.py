"""`lookup`: add to an event what a live table has of it."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import Field, PrivateAttr, ValidationInfo, model_validator

from engine.api import (
    ANY,
    Code,
    Example,
    Expression,
    ExpressionFault,
    Flow,
    LiveTable,
    Node,
    Problem,
    Record,
    Stateless,
    Type,
    component,
    did_you_mean,
)

MISSING = "missing"


@component("lookup")
class Lookup(Stateless):
    """Find a row of a live table and add what it has, under the names of its columns or under one name.

    A live table is one of the flow's with `live`; its rows may be changed by anybody, over HTTP or SQL, and what comes
    after sees the change within a second. An event sees the rows as they were when it arrived, in a replay too.
    """

    table: str
    """The live table."""
    by: Expression | dict[str, Expression]
    """What the row is found by: the value of the table's key, or where it has several columns, column → value."""
    fields: list[str] | dict[str, str] | None = None
    """Which columns are added, or field → column; by default all but the key."""
    as_: str | None = Field(None, alias="as")
    """The field that gets the row, or `fields` of it, as a mapping; by default each column is a field of its own."""
    on_missing: Literal["keep", "drop", "reject"] = "keep"
    """What happens where there is no such row: `keep` adds `default` or none, `reject` sends it to `missing`."""
    default: dict[str, Any] = {}
    """Field → what it gets where there is no such row, or where the row has none."""

    outputs = {MISSING: "events for which there is no row, with `on_missing: reject`"}
    examples = (
        Example(
            about="What kind of device it is, and how hot it may be.",
            config="lookup: {table: device, by: id, fields: [model, high]}",
            tables={"device": [{"device": "d1", "model": "TX-3", "high": 80.0}]},
            given=[{"id": "d1", "celsius": 71}, {"id": "d2", "celsius": 20}],
            expect=[
                {"id": "d1", "celsius": 71, "model": "TX-3", "high": 80.0},
                {"id": "d2", "celsius": 20, "model": None, "high": None},
            ],
        ),
        Example(
            about="Devices that nobody knows go elsewhere; a limit that is not set is 60.",
            config="lookup: {table: device, by: id, fields: {limit: high}, default: {limit: 60}, on_missing: reject}",
            tables={"device": [{"device": "d1", "model": "TX-3", "high": None}]},
            given=[{"id": "d1", "celsius": 71}, {"id": "d2", "celsius": 20}],
            expect=[{"id": "d1", "celsius": 71, "limit": 60}],
            side={"missing": [{"id": "d2", "celsius": 20}]},
        ),
    )

    _live: LiveTable | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _find(self, info: ValidationInfo) -> "Lookup":
        """Take the table of the flow; `check` says so where there is none."""
        self._live = getattr(info.context, "tables", {}).get(self.table)
        return self

    def side_outputs(self) -> Mapping[str, str]:
        """Return `missing` where events are sent there."""
        return self.outputs if self.on_missing == "reject" else {}

    def check(self, flow: Flow, node: Node) -> Iterable[Problem]:
        """Find a table that is not live, keys that are not those of the table, and columns that it does not have."""
        live = self._live
        if live is None:
            yield self._no_table(flow)
            return
        if isinstance(self.by, dict) and sorted(self.by) != sorted(live.by):
            message = f"what rows of '{self.table}' are found by ({', '.join(live.by)}); got {', '.join(self.by)}"
            yield Problem("option-value", "by", message)
        else:
            yield from self._unfit_key(live)
        for name, column in self._columns(live).items():
            if column not in live.types:
                option = f"fields.{name}" if isinstance(self.fields, dict) else "fields"
                message = f"a column of table '{self.table}' ({', '.join(live.types)}); got '{column}'"
                yield Problem("unknown-column", option, message, did_you_mean(column, live.types))
        for name in self.default.keys() - self._columns(live).keys():
            message = f"a field that is added ({', '.join(self._columns(live))}); got '{name}'"
            yield Problem("option-value", f"default.{name}", message, did_you_mean(name, self._columns(live)))

    def _no_table(self, flow: Flow) -> Problem:
        known = list(flow.live.tables)
        names = ", ".join(known) or "there is none"
        hint = f"{self.table}: {{…, live: true}}" if self.table in flow.tables else did_you_mean(self.table, known)
        return Problem("unknown-table", "table", f"a live table of the flow ({names}); got '{self.table}'", hint)

    def _unfit_key(self, live: LiveTable) -> Iterable[Problem]:
        try:
            self._row(live)
        except ExpressionFault as fault:
            yield Problem("expression", "by", fault.message, fault.hint or "")

    def _row(self, live: LiveTable) -> Expression:
        """Return the expression that is the row."""
        by = [self.by[column] for column in live.by] if isinstance(self.by, dict) else [self.by]
        settings = {name: value for one in by for name, value in one.known_settings.items()}
        return live.row([one.text for one in by], settings)

    def _columns(self, live: LiveTable) -> dict[str, str]:
        """Return field → column."""
        if self.fields is None:
            return {name: name for name in live.types if name not in live.by}
        return self.fields if isinstance(self.fields, dict) else {name: name for name in self.fields}

    def gives(self, given: Mapping[str, Type] | None, output: str = "") -> Mapping[str, Type] | None:
        """Return what comes in, with what is added."""
        if output or given is None or self._live is None:
            return given
        if self.as_ is not None:
            return {**given, self.as_: Type("dict", null=True)}
        types, columns = self._live.types, self._columns(self._live)
        added = {name: ANY if name in self.default else types.get(column, ANY) for name, column in columns.items()}
        return {**given, **{name: found._replace(null=True) for name, found in added.items()}}

    def code(self, code: Code) -> bool:
        """Write one look-up, and what is added."""
        if self._live is None:
            raise TypeError(f"a live table; '{self.table}' is none")
        row = code.name("w")
        code.line(f"{row} = {code.expression(self._row(self._live))}")
        if self.on_missing == "keep":
            self._add(code, row, self._live)
            return True
        with code.block(f"if {row} is not None:"):
            self._add(code, row, self._live)
        if self.on_missing == "reject":
            with code.block("else:"):
                code.same(MISSING)
        return True

    def _add(self, code: Code, row: str, live: LiveTable) -> None:
        """Write the fields, each its own or all in one."""
        known = row if self.on_missing != "keep" else f"({row} or {code.bind({})})"
        columns = self._columns(live).items()
        sources = {name: self._source(code, f"{known}.get({column!r})", name) for name, column in columns}
        if self.as_ is not None:
            code.go_on(code.with_value(self.as_, self._whole(row, sources), Type("dict", null=True)))
        elif code.record.fields is not None:
            code.go_on(self._with_each(code, sources, live))
        else:
            data = code.name("d")
            code.line(f"{data} = {{**{code.data}, {_pairs(sources)}}}")
            code.go_on(Record(data))

    def _whole(self, row: str, sources: Mapping[str, str]) -> str:
        """Return the mapping that one field gets; without a row and without defaults it is none."""
        whole = f"{{{_pairs(sources)}}}"
        return whole if self.default or self.on_missing != "keep" else f"({whole} if {row} is not None else None)"

    def _with_each(self, code: Code, sources: Mapping[str, str], live: LiveTable) -> Record:
        """Write each field as a variable of its own."""
        columns, fields, types = self._columns(live), dict(code.record.fields or {}), dict(code.record.types)
        for name, source in sources.items():
            fields[name] = code.name("w")
            code.line(f"{fields[name]} = {source}")
            types[name] = ANY if name in self.default else live.types[columns[name]]._replace(null=True)
        return Record("", fields, types)

    def _source(self, code: Code, source: str, name: str) -> str:
        """Return the source of a value, with its default."""
        if name not in self.default:
            return source
        value = code.name("w")
        return f"({value} if ({value} := {source}) is not None else {code.bind(self.default[name])})"


def _pairs(sources: Mapping[str, str]) -> str:
    return ", ".join(f"{name!r}: {source}" for name, source in sources.items())
