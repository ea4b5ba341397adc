"""A worker that is started ahead of its turn: it loads its version while another worker still runs the flow.

Until it is told to go it touches nothing of the flow: no lock, no inbox, no recovery store, no target, no link.
"""

import sys
from collections.abc import Callable

import msgspec

from engine.deployed import Deployed, Loaded, place_flow, read_flow
from engine.parent import LOADED, Parent
from engine.plan import Plan
from engine.settings import Settings
from engine.supervisor import Process

OPTION = "--ahead"


def worker_process(name: str, on_change: Callable[[Process], None] = lambda process: None) -> Process:
    """Return the process of a flow's worker, which is not started."""
    return Process(name, [sys.executable, "-m", "millstream", "worker", name], on_change)


async def begun_ahead(records: dict[str, Deployed]) -> dict[str, Process]:
    """Start the workers of these versions ahead; return them by their flow's name."""
    processes = {name: worker_process(name) for name in records}
    for name, process in processes.items():
        await process.begin(OPTION, msgspec.json.encode(records[name]))
    return processes


def loaded_ahead(settings: Settings, parent: Parent) -> Loaded:
    """Load the version whose record the gateway sends, say so, and return it when the gateway says go.

    Raises FlowInvalid, and whatever a component raises, where the version could not run.
    """
    record = msgspec.json.decode(parent.line(), type=Deployed)
    flow = read_flow(settings, record).raise_findings()
    Plan(place_flow(flow, settings, record.highest))
    parent.tell(LOADED)
    parent.line()
    return Loaded(record, flow)
