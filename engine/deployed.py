"""What is deployed: a copy of each flow as it was when it was started, and the serials that it counts on from."""

import os
from hashlib import sha256
from pathlib import Path

import msgspec

from engine.bundle import bundle
from engine.component import Place
from engine.errors import UsageFault
from engine.flow import Flow, Node
from engine.load import load_text
from engine.settings import Settings
from engine.substitution import Surroundings

UNDEPLOYED = "undeployed.json"


class Deployed(msgspec.Struct):
    """The record of a deployed flow: where its file is and its text, its version (a hash), its `--set` values, and the
    serials. A worker that starts again runs this text, whatever has become of the file.

    `number` is that of the version, `recovery` the folder of its states: one write of this record changes both.
    """

    source: str
    text: str
    version: str
    overrides: dict[str, str] = {}
    highest: dict[str, int] = {}
    number: int = 0
    recovery: str = "recovery"


def surroundings(settings: Settings, overrides: dict[str, str] | None = None) -> Surroundings:
    """Return what flows are read in."""
    return Surroundings(environment=dict(os.environ), overrides=overrides or {}, facts={"local": settings.local})


def record_path(settings: Settings, flow: str) -> Path:
    """Return where the record of a flow lies."""
    return settings.flow_folder(flow) / "deployed.json"


def read_record(settings: Settings, flow: str) -> Deployed | None:
    """Return the record of a flow, also of one that was undeployed; None where it was never deployed."""
    path = record_path(settings, flow)
    there = next((found for found in (path, path.with_name(UNDEPLOYED)) if found.exists()), None)
    return msgspec.json.decode(there.read_bytes(), type=Deployed) if there else None


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


def deployed_flows(settings: Settings) -> list[str]:
    """Return the names of the flows that are deployed in this data folder."""
    return sorted(path.parent.name for path in (settings.data / "flows").glob("*/deployed.json"))


def record_of(flow: Flow, overrides: dict[str, str], highest: dict[str, int]) -> Deployed:
    """Return the record of a flow that is deployed now from its file."""
    text = whole_text(flow)
    return Deployed(str(flow.path.resolve()), text, digest(text), overrides | flow.instance, highest)


def whole_text(flow: Flow) -> str:
    """Return the text of a flow's file with the files that it includes."""
    return bundle(flow.path.read_bytes().decode(errors="replace"), flow.files)


def digest(text: str) -> str:
    """Return the version of a text: the first 12 digits of its hash."""
    return sha256(text.encode(errors="surrogatepass")).hexdigest()[:12]


def read_flow(settings: Settings, record: Deployed) -> Flow:
    """Return the flow of a record as it is written; its findings are in its document."""
    around = msgspec.structs.replace(surroundings(settings, record.overrides), judged=False)
    return load_text(record.text, Path(record.source), around)


def place_flow(flow: Flow, settings: Settings, highest: dict[str, int], *, muted: bool = False) -> Flow:
    """Return the flow as it runs at this place; `muted`: without writing anything."""
    place = Place(settings.data, highest, muted)
    nodes = {name: _placed(node, place) for name, node in flow.nodes.items()}
    return msgspec.structs.replace(flow, nodes=nodes)


def _placed(node: Node, place: Place) -> Node:
    return msgspec.structs.replace(node, component=node.component.deployed(place))


class Loaded(msgspec.Struct):
    """A version that was read: its record, and the flow as it is written."""

    record: Deployed
    flow: Flow

    def is_of(self, record: Deployed) -> bool:
        """Tell whether reading this record gives the same flow."""
        ours = self.record
        return (ours.source, ours.text, ours.overrides) == (record.source, record.text, record.overrides)


def load_deployed(settings: Settings, name: str, known: Loaded | None = None) -> tuple[Flow, Deployed]:
    """Return a deployed flow, ready to run; raises UsageFault when there is none of this name.

    The record on disk says what is deployed; what is `known` is not read again.
    """
    record = read_record(settings, name)
    if record is None:
        raise UsageFault(f"a flow that is deployed; '{name}' is not ({record_path(settings, name)})")
    flow = known.flow if known and known.is_of(record) else read_flow(settings, record).raise_findings()
    return place_flow(flow, settings, record.highest), record
