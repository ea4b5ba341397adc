"""The application as a whole: paths, errors, pictures, health, metrics, documentation, and a deploy."""

import asyncio
from hashlib import sha256
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from engine.errors import FlowInvalid, UsageFault
from engine.load import load_text
from engine.media import MediaStore
from tests.web.gateway_site import FLOW, Site, error
from web.app import build_app
from web.health import health
from web.services import FlowState

PICTURE = b"\xff\xd8\xff picture"
OTHER = """
flow: other
tables: {thing: {id: serial, name: text(20)}}
sources: {things: {http: {post: /things}}}
operators: {named: {from: things, where: name}}
sinks: {kept: {from: named, sql: {table: thing}}}
queries:
  one: {get: "/things/{id}", one: true, sql: "select :id as id", params: {id: int}}
  latest: {get: /things/latest, allow: anyone, sql: "select 'latest' as name"}
"""


@pytest.mark.parametrize(
    "path", ["/nothing", "/sensor", "/sensor/result/", "/media/x", "/static/../app.py", "//", "/%00", "/docs/x"]
)
async def test_no_such_path_is_the_one_error(site: Site, path: str) -> None:
    error(await site.get(path), 404, "not_found")


async def test_another_method_names_those_that_there_are(site: Site) -> None:
    answer = await site.ask("DELETE", "/sensor/result")
    assert error(answer, 405, "method_not_allowed")["message"]
    assert answer.headers["allow"] == "GET"
    error(await site.ask("POST", "/health"), 405, "method_not_allowed")
    head = await site.ask("HEAD", "/sensor/result")
    assert (head.status_code, head.content) == (200, b"")


async def test_security_headers_and_no_cross_origin(site: Site) -> None:
    answer = await site.get("/sensor/result", headers={"Origin": "https://elsewhere.example"})
    assert "access-control-allow-origin" not in answer.headers
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


async def test_pictures_are_served_for_ever_and_only_by_their_name(site: Site) -> None:
    name = site.services.media.put(PICTURE, "jpg")
    answer = await site.get(f"/media/{name}", None)
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, PICTURE, "image/jpeg")
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    again = await site.get(f"/media/{name}", None, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    part = await site.get(f"/media/{name}", None, headers={"Range": "bytes=0-2"})
    assert (part.status_code, part.content) == (206, PICTURE[:3])
    for other in (name[:-1], name.upper(), f"..%2f{name}", f"{name}%00", "%2e%2e/secret", f"{'0' * 64}.jpg"):
        error(await site.get(f"/media/{other}", None), 404, "not_found")


def test_the_store_keeps_each_picture_once_and_leaves_nothing_half(tmp_path: Path) -> None:
    store = MediaStore(tmp_path)
    name = store.put(PICTURE, "jpg")
    assert name == f"{sha256(PICTURE).hexdigest()}.jpg"
    path = store.path(name)
    assert path is not None
    before = path.stat().st_mtime_ns
    assert store.put(PICTURE, "jpg") == name
    assert path.stat().st_mtime_ns == before
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == [name]
    assert store.path("../secret") is None
    with pytest.raises(UsageFault):
        store.put(PICTURE, "../x")
    path.parent.chmod(0o700)


@pytest.mark.parametrize(
    ("states", "status", "word"),
    [
        ([], 200, "ok"),
        (["running"], 200, "ok"),
        (["running", "starting"], 503, "starting"),
        (["starting", "parked"], 503, "failing"),
    ],
)
def test_health_of(states: list[str], status: int, word: str) -> None:
    flows = {str(n): FlowState(state=state) for n, state in enumerate(states)}
    found, body = health(flows)
    assert (found, body["status"]) == (status, word)


async def test_health_and_metrics(site: Site) -> None:
    site.services.states["line"] = FlowState(state="starting", last_error="password=x")
    answer = await site.get("/health", None)
    assert (answer.status_code, answer.json()) == (
        503,
        {"status": "starting", "flows": {"line": {"state": "starting", "restarts": 0}}},
    )
    counts = {"in": 7.0, "out": 6.0, "dead": 1.0}
    site.services.states["line"] = FlowState(state="running", restarts=2, lag=0.5, nodes={'no"de\n': counts})
    assert (await site.get("/health", None)).json()["status"] == "ok"
    text = (await site.get("/metrics", None)).text
    assert 'millstream_flow_up{flow="line"} 1.0' in text
    assert 'millstream_flow_restarts_total{flow="line"} 2.0' in text
    assert r'millstream_node_events_total{flow="line",node="no\"de\n",what="dead"} 1.0' in text
    assert 'millstream_http_requests_total{method="GET",status="5xx"} 1.0' in text


async def test_the_page_needs_nothing_from_elsewhere(site: Site) -> None:
    page = await site.get("/docs", None)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "http://" not in page.text
    assert "https://" not in page.text
    for file in ("docs.js", "docs.css"):
        answer = await site.get(f"/static/{file}", None)
        assert answer.status_code == 200
        assert "://" not in answer.text


async def test_openapi_lists_everything_and_answers_fit_it(site: Site) -> None:
    document = (await site.get("/openapi.json", None)).json()
    listed = {(method, path) for path, item in document["paths"].items() for method in item}
    declared = {(query.method, query.path) for query in site.flow.queries.values()}
    sources = {("post", "/readings"), ("post", "/sensor/{station}/result"), ("put", "/open"), ("put", "/held")}
    assert listed == declared | sources | {("post", "/auth/login"), ("get", "/auth/me"), ("get", "/health")}
    for path in ("/sensor/result", "/typed?i=1", "/by-device", "/whoami", "/people", "/dashboard/summary"):
        answer = await site.get(path, "manager")
        responses = document["paths"][path.partition("?")[0]]["get"]["responses"]
        jsonschema.validate(answer.json(), responses["200"]["content"]["application/json"]["schema"])
    refused = await site.get("/sensor/result?limit=0")
    jsonschema.validate(refused.json(), document["components"]["schemas"]["Error"])
    limit = next(p for p in document["paths"]["/sensor/result"]["get"]["parameters"] if p["name"] == "limit")
    assert limit["schema"] == {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}


async def test_a_deploy_replaces_the_paths(site: Site) -> None:
    assert (await site.get("/typed?i=1", None)).status_code == 200
    site.app.flow_routes.replace([load_text(OTHER).raise_findings()])
    error(await site.get("/typed?i=1", None), 404, "not_found")
    assert (await site.get("/things/latest", None)).json() == [{"name": "latest"}]
    assert (await site.get("/things/7")).json() == {"id": 7}
    assert (await site.post("/things", json={})).status_code == 202


async def test_two_flows_with_one_path_are_refused_and_the_old_ones_stay(site: Site) -> None:
    other = load_text(OTHER.replace("/things/latest", "/typed")).raise_findings()
    with pytest.raises(FlowInvalid, match="GET /typed is that of line"):
        site.app.flow_routes.replace([site.flow, other])
    assert (await site.get("/typed?i=1", None)).status_code == 200


async def test_a_database_that_is_away_is_a_503(site: Site, tmp_path: Path) -> None:
    away: Any = create_async_engine("mysql+aiomysql://x:y@127.0.0.1:9/none")
    site.services.database, kept = away, site.services.database
    site.app.flow_routes.replace([site.flow])
    answer = await site.get("/typed?i=1", None)
    site.services.database = kept
    error(answer, 503, "unavailable")
    assert answer.headers["retry-after"] == "1"
    await away.dispose()


async def test_pages_of_a_named_origin_may_call(site: Site) -> None:
    app = build_app([load_text(FLOW)], site.services, origins=["https://dash.example"])
    sent: list[Any] = []
    headers = [(b"origin", b"https://dash.example"), (b"access-control-request-method", b"POST")]
    scope = {
        "type": "http",
        "method": "OPTIONS",
        "path": "/readings",
        "headers": headers,
        "query_string": b"",
        "app": app,
    }

    async def send(message: Any) -> None:
        sent.append(message)

    await asyncio.wait_for(app(scope, asyncio.Queue[Any]().get, send), 5)
    assert dict(sent[0]["headers"])[b"access-control-allow-origin"] == b"https://dash.example"
    app.logins.close()


async def test_what_was_found_before_is_found_quickly_and_by_no_other_method(site: Site) -> None:
    routes = site.app.flow_routes
    assert routes.quick == {}
    for _ in range(2):
        assert (await site.post("/readings", json={"a": 1})).status_code == 202
        assert (await site.post("/sensor/led/result", json={"a": 1})).status_code in (201, 504)
        assert (await site.get("/sensor/result")).status_code == 200
        error(await site.get("/readings"), 405, "method_not_allowed")
        error(await site.post("/readings", None, json={}), 401, "token_missing")
    assert set(routes.quick) == {("POST", "/readings"), ("GET", "/sensor/result")}
    routes.replace([load_text(OTHER).raise_findings()])
    assert routes.quick == {}
    error(await site.post("/readings", json={"a": 1}), 404, "not_found")
