"""What is deployed: a copy of each flow as it was when it was started, and the serials that it counts on from."""

import os
from hashlib import sha256
from pathlib import Path

import msgspec

from engine.component import Place
from engine.errors import UsageFault
from engine.flow import Flow, Node
from engine.load import load_text
from engine.settings import Settings
from engine.substitution import Surroundings


class Deployed(msgspec.Struct):
    """The record of a deployed flow: where its file is and its text, its version (a hash), its `--set` values, and the
    serials. A worker that starts again runs this text, whatever has become of the file.
    """

    source: str
    text: str
    version: str
    overrides: dict[str, str] = {}
    highest: dict[str, int] = {}


def surroundings(settings: Settings, overrides: dict[str, str] | None = None) -> Surroundings:
    """Return what flows are read in."""
    return Surroundings(environment=dict(os.environ), overrides=overrides or {}, facts={"local": settings.local})


def record_path(settings: Settings, flow: str) -> Path:
    """Return where the record of a flow lies."""
    return settings.flow_folder(flow) / "deployed.json"


def read_record(settings: Settings, flow: str) -> Deployed | None:
    """Return the record of a flow, or None where it was never deployed."""
    path = record_path(settings, flow)
    return msgspec.json.decode(path.read_bytes(), type=Deployed) if path.exists() else None


def write_record(settings: Settings, flow: str, record: Deployed) -> None:
    """Write the record, whole or not at all."""
    path = record_path(settings, flow)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        file.write(msgspec.json.encode(record))
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def record_of(flow: Flow, overrides: dict[str, str], highest: dict[str, int]) -> Deployed:
    """Return the record of a flow that is deployed now; its version is the first 12 digits of its file's hash."""
    content = flow.path.read_bytes()
    version = sha256(content).hexdigest()[:12]
    return Deployed(str(flow.path.resolve()), content.decode(errors="replace"), version, overrides, highest)


def place_flow(flow: Flow, settings: Settings, highest: dict[str, int]) -> Flow:
    """Return the flow as it runs at this place."""
    place = Place(settings.data, highest)
    flow.nodes = {name: _placed(node, place) for name, node in flow.nodes.items()}
    return flow


def _placed(node: Node, place: Place) -> Node:
    return msgspec.structs.replace(node, component=node.component.deployed(place))


def load_deployed(settings: Settings, name: str) -> tuple[Flow, Deployed]:
    """Return a deployed flow, ready to run; raises UsageFault when there is none of this name."""
    record = read_record(settings, name)
    if record is None:
        raise UsageFault(f"a flow that is deployed; '{name}' is not ({record_path(settings, name)})")
    flow = load_text(record.text, Path(record.source), surroundings(settings, record.overrides)).raise_findings()
    return place_flow(flow, settings, record.highest), record
