"""`GET /flows/{flow}/tap?wire=…`: what passes a wire, live, as JSON lines."""

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from engine.refusal import Refusal
from web.api import Call, Endpoint
from web.inside import Inside
from web.taps import TapHub, Viewer


class TapAnswer(StreamingResponse):
    """The lines of one viewer; it looks no longer when the client has gone."""

    def __init__(self, hub: TapHub, viewer: Viewer) -> None:
        super().__init__(viewer.lines(), media_type="application/x-ndjson")
        self._hub, self._viewer = hub, viewer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the client has gone or there is nothing more to see."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._hub.close(self._viewer)


def tap_endpoints(inside: Inside) -> list[Endpoint]:
    """Return the call; payloads show, so it needs an employee."""

    async def tap(call: Call) -> TapAnswer:
        flow = call.path["flow"]
        if flow not in inside.definitions:
            known = ", ".join(inside.definitions)
            raise Refusal(404, "not_found", f"a flow that is deployed ({known}); got '{flow}'")
        return TapAnswer(inside.taps, inside.taps.open(flow, call.query.get("wire", "")))

    return [Endpoint("GET", "/flows/{flow}/tap", "employee", tap)]
