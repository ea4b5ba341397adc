"""Describe everything that the gateway serves as OpenAPI 3.1, from the declarations of the deployed flows."""

from collections.abc import Iterable, Sequence
from typing import Any

from engine.component import RoutedSource
from engine.flow import Flow, Node
from engine.parameters import JSON_SCHEMA
from engine.paths import path_parameters
from engine.queries import SCALARS, ChannelQuery, QuerySpec, SqlQuery, TableQuery, hidden
from engine.tables import resolved

Json = dict[str, Any]
_MEANING = {
    400: "The body is not JSON",
    401: "No token, or one that is expired or not valid",
    403: "The role is not enough",
    404: "There is no such thing",
    405: "The path does not take this method",
    409: "It exists already, or its state does not allow it",
    413: "The body is too long",
    415: "The body is packed in an unknown way, or of another type",
    422: "A parameter or the body is not as it should be",
    429: "Too many requests or attempts; Retry-After tells when",
    500: "A fault of the gateway",
    503: "Busy; Retry-After tells when",
    504: "No answer in time",
}
_ERROR_SCHEMA: Json = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {
                "code": {"type": "string"},
                "message": {"type": "string"},
                "fields": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {name: {"type": "string"} for name in ("field", "expected", "got")},
                    },
                },
                "id": {"type": "string"},
            },
        }
    },
}


def openapi(flows: Sequence[Flow], version: str) -> Json:
    """Return the document."""
    paths: dict[str, Json] = {}
    for method, path, operation in [*_own(), *(entry for flow in flows for entry in _flow(flow))]:
        paths.setdefault(path, {})[method] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "Millstream", "version": version},
        "tags": [{"name": "gateway"}, *({"name": flow.name, "description": flow.about} for flow in flows)],
        "paths": paths,
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
            "schemas": {"Error": _ERROR_SCHEMA},
        },
    }


def _flow(flow: Flow) -> Iterable[tuple[str, str, Json]]:
    for name, query in flow.queries.items():
        yield query.method, query.path, _operation(flow, name, query.role, query.about, _query(flow, query))
    for node in flow.section("sources"):
        if isinstance(node.component, RoutedSource):
            method, path, role = node.component.route()
            yield method.lower(), path, _operation(flow, node.name, role, node.about, _source(node, node.component))


def _operation(flow: Flow, name: str, role: str | None, about: str, rest: Json) -> Json:
    codes = [500, 503, *((401, 403) if role else ()), *rest.pop("codes", ())]
    operation = {
        "operationId": f"{flow.name}.{name}",
        "tags": [flow.name],
        "summary": about or name.replace("_", " "),
        "security": [{"bearer": []}] if role else [],
        **({"x-role": role} if role else {}),
        **rest,
    }
    operation["responses"] = {**operation["responses"], **_errors(codes)}
    return operation


def _errors(codes: Iterable[int]) -> Json:
    schema = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {str(code): {"description": _MEANING[code], "content": schema} for code in sorted(set(codes))}


def _answer(description: str, schema: Json) -> Json:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _query(flow: Flow, query: QuerySpec) -> Json:
    if isinstance(query, TableQuery):
        return _table(flow, query)
    if isinstance(query, SqlQuery):
        return _sql(query)
    empty = query.empty if isinstance(query, ChannelQuery) else None
    return {
        "responses": {"200": _answer("The latest value", {"examples": [empty]} if empty is not None else {})},
        "codes": [422],
    }


def _table(flow: Flow, query: TableQuery) -> Json:
    columns = {
        name: column.type for name, column in resolved(flow.tables)[query.table].columns.items() if not hidden(name)
    }
    in_path = path_parameters(query.path)
    known: dict[str, Json] = {name: JSON_SCHEMA[SCALARS[columns[name]]] for name in query.filters}
    known["limit"] = {"type": "integer", "minimum": 1, "maximum": query.most, "default": query.limit}
    known["before_id"] = JSON_SCHEMA["int"]
    if query.time_column(columns):
        known |= {"since": JSON_SCHEMA["time"], "until": JSON_SCHEMA["time"]}
    row = {"type": "object", "properties": {name: _column(kind) for name, kind in columns.items()}}
    parameters = [_parameter(name, schema, in_path=name in in_path) for name, schema in known.items()]
    return {
        "parameters": parameters,
        "responses": {"200": _answer("Rows, newest first", {"type": "array", "items": row})},
        "codes": [422],
    }


def _column(kind: str) -> Json:
    if kind not in SCALARS:
        return {} if kind == "json" else {"type": ["string", "null"], "contentEncoding": "base64"}
    schema = JSON_SCHEMA[SCALARS[kind]]
    return schema | {"type": [schema["type"], "null"]}


def _parameter(name: str, schema: Json, *, in_path: bool, required: bool = False, about: str = "") -> Json:
    place = {"in": "path", "required": True} if in_path else {"in": "query", "required": required}
    return {"name": name, **place, "schema": schema, **({"description": about} if about else {})}


def _sql(query: SqlQuery) -> Json:
    in_path = path_parameters(query.path)
    named = in_path if query.writes else list(query.params)
    result: Json = {"responses": {str(query.status): _sql_answer(query)}, "codes": [404, 409, 422, 504]}
    if named:
        result["parameters"] = [_sql_parameter(query, name, in_path) for name in named]
    if query.writes:
        result["requestBody"] = _sql_body(query, [name for name in query.params if name not in named])
        result["codes"] += [400, 413, 415]
    return result


def _sql_answer(query: SqlQuery) -> Json:
    columns = {name: JSON_SCHEMA.get(kind, {}) for name, kind in query.columns.items()}
    row: Json = {"type": "object", "properties": columns}
    if query.writes if query.one is None else query.one:
        return _answer("The row, or how many rows were changed", row) if query.writes else _answer("The row", row)
    return _answer("The rows", {"type": "array", "items": row})


def _sql_parameter(query: SqlQuery, name: str, in_path: list[str]) -> Json:
    parameter = query.params[name]
    about = parameter.about or (f"default: {parameter.default}" if parameter.moment else "")
    schema, required = parameter.json_schema(), parameter.required
    return _parameter(name, schema, in_path=name in in_path, required=required, about=about)


def _sql_body(query: SqlQuery, names: list[str]) -> Json:
    schemas = {name: query.params[name].json_schema() for name in names}
    for name in names:
        if query.params[name].optional:
            schemas[name] = {"anyOf": [schemas[name], {"type": "null"}]}
    required = [name for name in names if query.params[name].required]
    schema = {"type": "object", "properties": schemas, "required": required, "additionalProperties": False}
    return {"required": bool(required), "content": {"application/json": {"schema": schema}}}


def _source(node: Node, source: RoutedSource) -> Json:
    described: Any = getattr(source, "openapi", None)
    if described is not None:
        return dict(described())
    return {"responses": {"200": {"description": node.kind}}}


def _own() -> Iterable[tuple[str, str, Json]]:
    login = {
        "type": "object",
        "required": ["username", "password"],
        "properties": {n: {"type": "string"} for n in ("username", "password")},
    }
    token = {
        "type": "object",
        "properties": {
            "access_token": {"type": "string"},
            "token_type": {"const": "bearer"},
            "expires_in": {"type": "integer"},
        },
    }
    yield "post", "/auth/login", _gateway("Log in", token, [400, 401, 413, 415, 422, 429, 503], body=login)
    me = {"type": "object", "properties": {"username": {"type": "string"}, "role": {"type": "string"}}}
    yield "get", "/auth/me", _gateway("Who the token is", me, [401, 403], secured=True)
    state = {
        "type": "object",
        "properties": {"status": {"enum": ["ok", "starting", "failing"]}, "flows": {"type": "object"}},
    }
    health = _gateway("Whether every deployed flow runs", state, [])
    health["responses"]["503"] = _answer("Not every flow runs", state)
    yield "get", "/health", health


def _gateway(summary: str, schema: Json, codes: list[int], *, body: Json | None = None, secured: bool = False) -> Json:
    operation: Json = {"tags": ["gateway"], "summary": summary, "security": [{"bearer": []}] if secured else []}
    if body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    return operation | {"responses": {"200": _answer(summary, schema), **_errors(codes)}}
