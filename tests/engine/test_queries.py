"""What lint says of queries: every problem, where it is, and what was meant."""

from typing import Any

import pytest

from engine.errors import SpecFault
from engine.load import load_text
from engine.queries import QuerySpec
from engine.sql_text import READS, WRITES, read_sql

FLOW = """
flow: line
tables:
  car: {id: serial, created_at: time}
  sensor_result: {id: serial, car_id: car.id, device: text(50), extra: json, made: date}
  employees: {view: accounts}
sources: {gate: {http: {post: /gate}}}
operators: {named: {from: gate, where: device}}
sinks:
  stats: {from: named, channel: {name: dashboard, event: stats_update, keep: last}}
  defects: {from: named, channel: {name: dashboard, event: defect}}
channels: {dashboard: {path: /ws/dashboard}}
queries:
  q: QUERY
"""


def findings(query: str) -> list[str]:
    flow = load_text(FLOW.replace("QUERY", query))
    return [f"{f.option}: {f.message}" + (f" ({f.hint})" if f.hint else "") for f in flow.document.findings]


@pytest.mark.parametrize(
    "query",
    [
        "{get: /a, table: sensor_result, filters: [car_id, device, made], where: {device: [LED, null]}}",
        "{get: '/a/{device}', table: sensor_result, filters: [device], time: made}",
        "{get: /a, table: employees, filters: [username]}",
        "{get: /a, channel: dashboard.stats_update, empty: {}}",
        "{get: /a, allow: anyone, sql: 'select 1; -- :x ;'}",
        "{get: /a, sql: \"select ':x; ${y' || :z\", params: {z: text}}".replace("${", ""),
        "{get: /a, sql: 'with a as (select 1) select * from a', cache: 30s, zone: Asia/Seoul}",
        "{post: /a, sql: 'insert into car (id) values (:id)', params: {id: int}, returns: 'select :inserted_id'}",
        "{delete: '/a/{id}', sql: 'delete from car where id = :id', params: {id: int}, missing: gone}",
        "{get: /a, sql: 'select :d, :t', params: {d: {type: date, default: today}, t: {type: time, default: now}}}",
        "{get: /a, sql: 'select :d', params: {d: {type: date, default: \"2025-03-01\"}}}",
    ],
)
def test_what_is_well(query: str) -> None:
    assert findings(query) == []


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("{table: car}", ["q: exactly one method of get, post, put, patch, delete; got none"]),
        (
            "{get: /a, post: /b, table: car}",
            ["q.post: exactly one method of get, post, put, patch, delete; got get, post"],
        ),
        ("{get: /a, tabel: car}", ["q: exactly one kind of table, channel, sql; got none", "did you mean 'table'?"]),
        ("{get: /a, table: car, filter: [id]}", ["q.filter: one of ", "did you mean 'filters'?"]),
        ("{get: /a, table: car, path: /b}", ["q.path: the method with its path"]),
        ("{get: a, table: car}", ["q.get: a path like /cars/{id}; got 'a'"]),
        ("{get: /a/../b, table: car}", ["q.get: a path like"]),
        ("{get: /media/x, table: car}", ["q.get: a path of the flow's own; /media is the gateway's"]),
        ("{get: /gate, allow: employe, table: car}", ["q.allow: one of", "did you mean 'employee'?"]),
        ("{get: /a, table: cars}", ["q.table: a known table; got 'cars' (did you mean 'car'?)"]),
        (
            "{get: /a, table: sensor_result, filters: [divice]}",
            ["q.filters.0: a known column", "did you mean 'device'?"],
        ),
        (
            "{get: /a, table: sensor_result, filters: [extra]}",
            ["q.filters.0: a column that can be compared; 'extra' is json"],
        ),
        ("{get: /a, table: sensor_result, where: {extra: 1}}", ["q.where.extra: a column that can be compared"]),
        ("{get: /a, table: sensor_result, where: {car_id: x}}", ["q.where.car_id: a whole number; got 'x'"]),
        ("{get: /a, table: sensor_result, newest: device}", ["q.newest: a whole-number column; 'device' is text"]),
        ("{get: /a, table: sensor_result, time: device}", ["q.time: a time or date column"]),
        ("{get: /a, table: sensor_result, limit: 5, most: 2}", ["q.limit: at most 2 (most); got 5"]),
        ("{get: /a, table: employees, filters: [password_hash]}", ["q.filters.0: a known column"]),
        ("{get: '/a/{x}', table: car}", ["q.get: path parameters that are filters; got 'x'"]),
        ("{post: /a, table: car}", ["q.post: get; only a query with sql takes post"]),
        (
            "{get: /a, channel: dashbord.stats_update}",
            ["q.channel: a known channel; got 'dashbord' (did you mean 'dashboard'?)"],
        ),
        ("{get: /a, channel: dashboard.stats}", ["q.channel: a known event of channel 'dashboard'"]),
        (
            "{get: /a, channel: dashboard.defect}",
            ["q.channel: an event that is kept; 'defect' is pushed without keep: last"],
        ),
        (
            "{get: /a, sql: 'select :dat', params: {date: date}}",
            ["q.sql: a known parameter", "did you mean 'date'?", "q.params.date"],
        ),
        (
            "{get: /a, sql: 'delete from car'}",
            ["q.sql: a statement that begins with select, values, with; got 'delete'"],
        ),
        ("{post: /a, sql: 'drop table car'}", ["q.sql: a statement that begins with"]),
        ("{get: /a, sql: 'select 1; delete from car'}", ["q.sql: one statement; got a ';' inside"]),
        ("{get: /a, sql: 'select {{ x }}'}", ["q.sql: no template inside SQL"]),
        ("{get: /a, sql: 'select password_hash from employees'}", ["q.sql: no password_hash"]),
        ("{get: /a, sql: 'select \"password_hash\" from employees'}", ["q.sql: no password_hash"]),
        ('{get: /a, sql: "select \'a"}', ["q.sql: a closed quote or comment"]),
        ("{get: /a, sql: 'select 1 /*! into outfile */'}", ["q.sql: no comment that the database runs"]),
        ("{get: '/a/{id}', sql: 'select 1'}", ["q.get: a known parameter in params, as it is in the path; got 'id'"]),
        ("{post: /a, cache: 1s, sql: 'insert into car (id) values (1)'}", ["q.cache: get; an answer to post"]),
        ("{get: /a, sql: 'select 1', returns: 'select 2'}", ["q.returns: a statement that changes rows"]),
        ("{get: /a, sql: 'select 1', zone: Mars}", ["q.zone: a time zone like Europe/Berlin"]),
        ("{get: /a, sql: 'select :n', params: {n: integer}}", ["q.params.n.type: one of int"]),
        (
            "{get: /a, sql: 'select :n', params: {n: {type: int, default: x}}}",
            ["q.params.n: a default that is a whole number"],
        ),
        (
            "{get: /a, sql: 'select :n', set: {n: account.nam}}",
            ["q.set.n: one of account.name", "did you mean 'account.name'?"],
        ),
        ("{get: /a, allow: anyone, sql: 'select :n', set: {n: account.name}}", ["q.set.n: a role in allow"]),
        ("5", ["q: a mapping with a method and its path; got 5"]),
    ],
)
def test_what_lint_says(query: str, expected: list[str]) -> None:
    said = "\n".join(findings(query))
    assert all(text in said for text in expected), said


def test_a_setting_is_never_put_into_sql() -> None:
    spec: dict[str, Any] = {"get": "/a", "sql": "select ${secret}"}
    assert "no template inside SQL: bind a parameter (:name) instead" in [*read_sql(spec["sql"], READS).problems]


@pytest.mark.parametrize(
    ("sql", "text", "parameters"),
    [
        (
            "select :a, ':b', \":c\", `:d` -- :e\n, x::int /* :f */",
            "select :a, '\\:b', \"\\:c\", `\\:d` -- \\:e\n, x::int /* \\:f */",
            {"a"},
        ),
        ("select '''' || :a || '12:30'", "select '''' || :a || '12\\:30'", {"a"}),
        ("select 1 - 2 / :a;", "select 1 - 2 / :a", {"a"}),
    ],
)
def test_parameters_are_those_of_the_code_only(sql: str, text: str, parameters: set[str]) -> None:
    found = read_sql(sql, WRITES)
    assert (found.text, found.parameters, found.problems) == (text, frozenset(parameters), ())


def test_all_problems_come_at_once() -> None:
    with pytest.raises(SpecFault) as caught:
        QuerySpec.parse("q", {"get": "/a", "sql": 5, "cache": "x", "status": 99})
    assert {problem.where for problem in caught.value.problems} == {("sql",), ("cache",), ("status",)}
