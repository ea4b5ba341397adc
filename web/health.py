"""Tell whether every deployed flow runs."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from web.errors import json_answer
from web.services import FlowState, Services

STARTING = frozenset({"starting", "restarting", "stopping", "draining"})


def health(flows: dict[str, FlowState]) -> tuple[int, dict[str, object]]:
    """Return the status and the body: `ok` once all run, `starting` while they will, `failing` where one will not."""
    states = {flow.state for flow in flows.values()} - {"running"}
    status = "ok" if not states else "starting" if states <= STARTING else "failing"
    shown = {name: _shown(flow) for name, flow in flows.items()}
    return 200 if status == "ok" else 503, {"status": status, "flows": shown}


def _shown(flow: FlowState) -> dict[str, object]:
    unbalanced = {"ledger": "unbalanced"} if flow.unbalanced else {}
    return {"state": flow.state, "restarts": flow.restarts} | unbalanced


class HealthRoute:
    """GET /health: ready; GET /health/live: the gateway answers at all."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def __call__(self, request: Request) -> Response:
        """Answer 200 or 503."""
        status, body = health(self._services.flows())
        return json_answer(msgspec.json.encode(body), status)


async def live(request: Request) -> Response:
    """Answer 200 whenever the gateway answers."""
    return json_answer(b'{"status":"ok"}')
