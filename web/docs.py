"""The documentation page of what this gateway serves; it needs nothing from the internet."""

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from web.errors import json_answer
from web.openapi import openapi
from web.routes import FlowRoutes

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Millstream: what this gateway serves</title>
<link rel="stylesheet" href="/static/docs.css">
<script type="module" src="/static/docs.js"></script>
</head>
<body>
<header><h1>Millstream</h1>
<p>What this gateway serves. The same for programs: <a href="/openapi.json">openapi.json</a></p></header>
<form id="login"><input name="username" placeholder="Name" autocomplete="username" required>
<input name="password" type="password" placeholder="Password" autocomplete="current-password" required>
<button>Log in</button> <output></output></form>
<main id="operations"><noscript>This page needs JavaScript; openapi.json has the same.</noscript></main>
</body>
</html>
"""


def version() -> str:
    """Return the installed version."""
    try:
        return installed_version("millstream")
    except PackageNotFoundError:
        return "0"


class DocsRoutes:
    """GET /docs and GET /openapi.json."""

    def __init__(self, flow_routes: FlowRoutes) -> None:
        self._flow_routes = flow_routes

    async def schema(self, request: Request) -> Response:
        """Answer the OpenAPI document of the flows that are deployed now."""
        return json_answer(msgspec.json.encode(openapi(self._flow_routes.flows, version())))

    async def page(self, request: Request) -> Response:
        """Answer the page."""
        return Response(PAGE, media_type="text/html; charset=utf-8")
