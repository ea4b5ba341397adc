"""The pages of a pack: Jinja2 templates from the pack's folder, sandboxed, and the files beside them."""

import re
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path

from jinja2 import FileSystemLoader, TemplateError
from jinja2.sandbox import SandboxedEnvironment
from pydantic import SecretStr
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from engine.flow import Flow

TYPES = {
    ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".json": "application/json",
    ".svg": "image/svg+xml", ".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp", ".gif": "image/gif",
    ".ico": "image/x-icon", ".woff2": "font/woff2", ".webmanifest": "application/manifest+json",
}  # fmt: skip
_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}", re.ASCII)


class Page:
    """One page: rendered with the flow's settings (never its secrets); what it shows it asks for itself."""

    def __init__(self, flow: Flow, file: str) -> None:
        self._flow, self._file = flow, file
        self._templates = SandboxedEnvironment(loader=FileSystemLoader(_folder(flow, file)), autoescape=True)

    async def __call__(self, request: Request) -> Response:
        """Render the page."""
        settings = {name: value for name, value in self._flow.settings.items() if not isinstance(value, SecretStr)}
        try:
            text = self._templates.get_template(Path(self._file).name).render(
                flow=self._flow.name, about=self._flow.about, settings=settings
            )
        except TemplateError as fault:
            raise HTTPException(500, f"{self._file}: {fault}") from fault
        return HTMLResponse(text, headers={"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"})


class Beside:
    """GET /pages/<flow>/<file>: styles, scripts and pictures beside the flow's pages.

    A name is one file in a page's folder, of a type in TYPES: the templates themselves and what lies elsewhere are not
    found. Browsers keep a file and ask whether it has changed.
    """

    def __init__(self, flow: Flow) -> None:
        self._folders = list(dict.fromkeys(_folder(flow, file) for file in flow.pages.values()))

    async def __call__(self, request: Request) -> Response:
        """Answer the file, 304 where the browser has it, or 404."""
        path = self._find(request.path_params["file"])
        if path is None:
            raise HTTPException(404)
        body = path.read_bytes()
        etag = f'"{blake2b(body, digest_size=16).hexdigest()}"'
        headers = {"Cache-Control": "no-cache", "ETag": etag, "X-Content-Type-Options": "nosniff"}
        if etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(body, media_type=TYPES[path.suffix], headers=headers)

    def _find(self, name: str) -> Path | None:
        if not _PLAIN.fullmatch(name) or Path(name).suffix not in TYPES:
            return None
        found = (folder / name for folder in self._folders if (folder / name).is_file())
        return next((path for path in found if path.resolve().parent == path.parent), None)


def page_routes(flow: Flow) -> Iterable[BaseRoute]:
    """Return the routes of a flow's pages and of the files beside them."""
    pages = [Route(path, Page(flow, file).__call__, methods=["GET"]) for path, file in flow.pages.items()]
    return [*pages, Route(f"/pages/{flow.name}/{{file}}", Beside(flow).__call__, methods=["GET"])] if pages else []


def _folder(flow: Flow, file: str) -> Path:
    return (flow.path.parent / file).parent.resolve()
