"""The third tier of lint: try, all at once, what each node, table and query of flows would reach at this place."""

import asyncio
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from engine.appended import appended_tables
from engine.deployed import read_flow, read_record
from engine.document import Where
from engine.errors import Finding
from engine.flow import Flow
from engine.probe_database import DatabaseProbe
from engine.problem import Problem
from engine.queries import SqlQuery
from engine.reach import Reach
from engine.settings import Settings
from engine.tables import to_sqlalchemy
from engine.wiring import place_of

MORE = 2.0
"""Seconds beyond `patience` after which a component's own probe is given up."""
Problems = Iterable[Problem]


class Probe(NamedTuple):
    """Something to try, and what of the file its problems are about."""

    flow: Flow
    where: Where
    node: str
    attempt: Coroutine[Any, Any, Problems]


async def probe_flows(flows: Sequence[Flow], settings: Settings, patience: float) -> list[Finding]:
    """Return what is wrong with the place for flows that have no findings; what several nodes share is told once."""
    reach = Reach(settings, patience)
    try:
        probes = [probe for flow in flows for probe in _probes(flow, reach)]
        outcomes = await asyncio.gather(*(_tried(probe.attempt, patience) for probe in probes))
        found = [_finding(probe, one) for probe, problems in zip(probes, outcomes, strict=True) for one in problems]
    finally:
        await reach.close()
    return list(_once(found))


async def _tried(attempt: Coroutine[Any, Any, Problems], patience: float) -> list[Problem]:
    try:
        async with asyncio.timeout(patience + MORE):
            return list(await attempt)
    except TimeoutError:
        return [Problem("probe", "", f"an answer; got none within {patience + MORE:g} s")]
    except Exception as fault:  # a component's own probe; what is wrong with it costs only itself
        return [Problem("probe", "", f"an answer; got {type(fault).__name__}: {fault}")]


def _probes(flow: Flow, reach: Reach) -> Iterator[Probe]:
    for node in flow.nodes.values():
        yield Probe(flow, place_of(flow, node, node.kind), node.name, node.component.probe(node, reach))
    if served := _served(flow):
        yield Probe(flow, served, "", reach.web())
    if flow.tables:
        yield Probe(flow, ("tables",), "", reach.database.fault())
        yield Probe(flow, ("tables",), "", _drift(flow, reach))
    for name, query in flow.queries.items():
        if isinstance(query, SqlQuery):
            yield Probe(flow, ("queries", name), "", _explained(flow, name, query, reach.database))


def _served(flow: Flow) -> Where:
    """Return the first part of a flow beside its sources that the gateway serves over HTTP, if any."""
    served = ((section, name) for section in ("channels", "queries", "pages") for name in getattr(flow, section))
    return next(served, ())


async def _drift(flow: Flow, reach: Reach) -> list[Problem]:
    record = read_record(reach.settings, flow.name)
    deployed = _metadata(read_flow(reach.settings, record)) if record else None
    views = {name: table.view for name, table in flow.tables.items() if table.view}
    changes = await reach.database.drift(_metadata(flow), views, deployed)
    return [Problem("table-drift", ".".join(filter(None, (c.table, c.column))), _said(c, deployed)) for c in changes]


def _metadata(flow: Flow) -> sa.MetaData:
    return to_sqlalchemy(flow.tables, appended_tables(flow))


def _said(change: Any, deployed: sa.MetaData | None) -> str:
    if change.refused or change.kind == "type":
        return f"a database as it is declared; a deploy would change {change}"
    return f"what was deployed; the database does not have {change.kind} {change.column or change.table}"


async def _explained(flow: Flow, name: str, query: SqlQuery, database: DatabaseProbe) -> list[Problem]:
    """Let the database explain a query's SQL, where all tables of the flow are there."""
    if await database.missing(flow.tables):
        return []
    statement = query.statement()
    given = {one: _sample(query, one) for one in statement.parameters}
    explained = sa.text(f"EXPLAIN {statement.text}").bindparams(**given)
    return [] if await database.fault() else await database.may_ask(explained, f"{name}.sql")


def _sample(query: SqlQuery, name: str) -> Any:
    """Return a value for a parameter: only whether the SQL can be run is asked."""
    kind = query.params[name].type if name in query.params else "text"
    return 1 if kind in ("int", "number", "bool") else "2026-01-01"


def _finding(probe: Probe, problem: Problem) -> Finding:
    steps = tuple(int(part) if part.isdecimal() else part for part in problem.option.split(".") if part)
    flow, base = probe.flow, probe.where[:1] if probe.where[0] == "queries" else probe.where
    line, column = flow.document.at((*base, *steps) if steps else probe.where)
    return Finding(
        code=problem.code, message=problem.message, path=flow.document.path, line=line, column=column, node=probe.node,
        option=problem.option, hint=problem.hint, severity=problem.severity,
    )  # fmt: skip


def _once(found: list[Finding]) -> Iterator[Finding]:
    """Yield each problem once a file, at the first that has it; the others are named."""
    same: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in sorted(dict.fromkeys(found), key=lambda f: (f.path, f.line, f.column)):
        same.setdefault((finding.path, finding.code, finding.message), []).append(finding)
    for first, *others in same.values():
        names = list(dict.fromkeys(other.node for other in others if other.node not in ("", first.node)))
        hint = f"so has {', '.join(names)}" if names else ""
        yield msgspec.structs.replace(first, hint="; ".join(filter(None, (first.hint, hint))))
