"""`GET /flows/{flow}/ledger`: what became of all that a flow received."""

from typing import Any

from engine.refusal import Refusal
from web.api import Call, Endpoint
from web.inside import Inside


def ledger_endpoints(inside: Inside) -> list[Endpoint]:
    """Return the call: `{"flow": …, "ledger": {term: ways}, "unbalanced": {node: lost or (below 0) doubled}}`."""

    async def ledger(call: Call) -> dict[str, Any]:
        flow = call.path["flow"]
        if flow not in inside.definitions:
            known = ", ".join(inside.definitions)
            raise Refusal(404, "not_found", f"a flow that is deployed ({known}); got '{flow}'")
        return {"flow": flow, "ledger": inside.ledger(flow), "unbalanced": inside.ledgers.where(flow)}

    return [Endpoint("GET", "/flows/{flow}/ledger", "viewer", ledger)]
