"""The pages of a pack: Jinja2 templates from the pack's folder, sandboxed, and the files beside them."""

from collections.abc import Iterable
from pathlib import Path

from jinja2 import FileSystemLoader, TemplateError
from jinja2.sandbox import SandboxedEnvironment
from pydantic import SecretStr
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from engine.flow import Flow


class Page:
    """One page: rendered with the flow's settings (never its secrets); what it shows it asks for itself."""

    def __init__(self, flow: Flow, file: str) -> None:
        self._flow, self._file = flow, file
        folder = (flow.path.parent / file).parent
        self._templates = SandboxedEnvironment(loader=FileSystemLoader(folder), autoescape=True)

    async def __call__(self, request: Request) -> Response:
        """Render the page."""
        settings = {name: value for name, value in self._flow.settings.items() if not isinstance(value, SecretStr)}
        try:
            text = self._templates.get_template(Path(self._file).name).render(
                flow=self._flow.name, about=self._flow.about, settings=settings
            )
        except TemplateError as fault:
            raise HTTPException(500, f"{self._file}: {fault}") from fault
        return HTMLResponse(text, headers={"Cache-Control": "no-cache"})


def page_routes(flow: Flow) -> Iterable[BaseRoute]:
    """Return the routes of a flow's pages."""
    return [Route(path, Page(flow, file).__call__, methods=["GET"]) for path, file in flow.pages.items()]
