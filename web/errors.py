"""Every error answer of the gateway: one JSON shape, one place that makes it, and nothing of the inside shown."""

import secrets
from collections.abc import Mapping

import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.errors import Unavailable
from engine.refusal import Refusal, busy
from web.database_faults import refusal_of

log = structlog.get_logger(__name__)
_CODES = {
    400: "bad_request", 401: "unauthorized", 403: "forbidden", 404: "not_found", 405: "method_not_allowed",
    413: "too_large", 415: "unsupported_encoding", 422: "invalid", 503: "unavailable",
}  # fmt: skip
_MESSAGES = {404: "there is nothing at this path", 405: "this path does not take this method"}
HEADERS: Mapping[str, str] = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
    "content-security-policy": (
        "default-src 'self'; img-src 'self' data: blob:; connect-src 'self' ws: wss:; "
        "style-src 'self' 'unsafe-inline'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'; object-src 'none'"
    ),
}
_RAW_HEADERS = [(name.encode(), value.encode()) for name, value in HEADERS.items()]


def json_answer(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return JSON that is encoded already."""
    return Response(body, status, dict(headers or {}), media_type="application/json")


def error_answer(refusal: Refusal) -> Response:
    """Return a refusal as the answer that a client gets."""
    return json_answer(refusal.body(), refusal.status, refusal.headers)


def refusal_for(error: Exception) -> Refusal | None:
    """Return what a client is told of an error that is expected to happen; None: a fault of ours."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, Unavailable):
        return busy(str(error) or "busy; try again")
    if isinstance(error, HTTPException):
        message = _MESSAGES.get(error.status_code, error.detail)
        code = _CODES.get(error.status_code, f"http_{error.status_code}")
        return Refusal(error.status_code, code, message, headers=error.headers)
    if isinstance(error, SQLAlchemyError):
        return refusal_of(error)
    return None


async def answer_error(connection: HTTPConnection, error: Exception) -> Response:
    """Answer an error that a route raised, of HTTP or of a WebSocket not yet accepted; what is not expected goes on."""
    refusal = refusal_for(error)
    if refusal is None:
        raise error
    return error_answer(refusal)


class Shield:
    """The outermost layer: adds the security headers, and turns what nobody expected into a 500 with an id."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def send_safely(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = _with_security(message["headers"])
            await send(message)

        try:
            await self.app(scope, receive, send_safely)
        except ClientDisconnect:
            return
        except Exception:
            reference = secrets.token_hex(8)
            log.exception("request failed", id=reference, method=scope["method"], path=scope["path"])
            if not started:
                refusal = Refusal(
                    500, "internal", "something went wrong here; the log has it under this id", id=reference
                )
                await error_answer(refusal)(scope, receive, send_safely)


def _with_security(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    present = {name.lower() for name, _ in headers}
    return [*headers, *(pair for pair in _RAW_HEADERS if pair[0] not in present)]
