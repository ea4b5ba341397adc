"""What the pages of the console have in common: their templates, and the way to the login."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from web.channel_entry import Account
from web.console_text import FILTERS

HOME = "/console"
_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates" / "console"), autoescape=True,
    undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
)  # fmt: skip
_templates.filters.update(FILTERS)


def page(template: str, account: Account | None, status: int = 200, **values: Any) -> HTMLResponse:
    """Return a page, or a part of one."""
    # with `no-referrer`, a browser sends the Origin of our own forms as `null`, like that of a stranger
    headers = {"Referrer-Policy": "same-origin"}
    return HTMLResponse(_templates.get_template(template).render(account=account, **values), status, headers)


def to_login(request: Request) -> Response:
    """Lead to the login, and from there back."""
    return RedirectResponse(f"{HOME}/login?next={quote(request.url.path)}", 303)
