"""Make a version of a flow the deployed one: its record, its states, its entry among the versions."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from engine.deploy_plan import DeployPlan, Stored, plan_deploy, stored
from engine.deployed import Deployed, deployed_flows, digest, read_flow, read_record, surroundings, write_record
from engine.errors import MillstreamError
from engine.fingerprints import fingerprints
from engine.flow import Flow
from engine.load import load_text
from engine.recovery import copy_edited, next_folder, sweep
from engine.settings import Settings
from engine.spill import forget_spills, rename_spills, spilled_elsewhere
from engine.versions import Version, Versions, difference, now


class DeployRefused(MillstreamError):
    """A plan needs a decision that was not given; carries the plan and each reason."""

    def __init__(self, plan: DeployPlan, reasons: list[str]) -> None:
        super().__init__(f"flow '{plan.flow}' is not deployed: " + "; ".join(reasons))
        self.plan, self.reasons = plan, reasons


class Candidate(msgspec.Struct):
    """A version that may be deployed: the flow as it is read from a text, and the `--set` values."""

    flow: Flow
    text: str
    source: str
    overrides: dict[str, str] = {}


class Consent(msgspec.Struct, frozen=True):
    """What is agreed to: nodes whose state may be given up, and changes of tables that lose data."""

    reset: frozenset[str] = frozenset()
    destructive: bool = False


def candidate(settings: Settings, text: str, source: str, overrides: dict[str, str]) -> Candidate:
    """Read a version; raises FlowInvalid with every finding."""
    flow = load_text(text, Path(source), surroundings(settings, overrides)).raise_findings()
    return Candidate(flow, text, source, overrides)


def records_to_run(settings: Settings, versions: Sequence[Candidate]) -> dict[str, Deployed]:
    """Return by flow what a gateway runs: the versions that are named, or else all that is deployed."""
    named = {new.flow.name: Deployed(new.source, new.text, digest(new.text), new.overrides) for new in versions}
    found = {} if named else {name: read_record(settings, name) for name in deployed_flows(settings)}
    return named | {name: record for name, record in found.items() if record}


def left_over(settings: Settings, name: str, record: Deployed | None, flow: Flow) -> Stored:
    """Return what the deployed version has left on disk; `flow` is the one that is to follow it."""
    if record is None:
        return Stored()
    folder = settings.flow_folder(name)
    return stored(folder / record.recovery, name, spilled_elsewhere(folder, [n.name for n in flow.section("sinks")]))


def plan_of(settings: Settings, new: Candidate) -> tuple[DeployPlan, Deployed | None]:
    """Return the plan from what is deployed now, and its record."""
    record = read_record(settings, new.flow.name)
    old = read_flow(settings, record) if record else None
    known = old if old is not None and old.name else None
    return plan_deploy(known, new.flow, left_over(settings, new.flow.name, record, new.flow)), record


def check(plan: DeployPlan, consent: Consent) -> None:
    """Raise DeployRefused where the plan needs more consent."""
    if reasons := plan.refusals(consent.reset, consent.destructive):
        raise DeployRefused(plan, reasons)


def next_record(settings: Settings, new: Candidate, plan: DeployPlan, old: Deployed | None) -> Deployed:
    """Return the record of the version that follows; its states get a folder of their own where they may change."""
    folder = settings.flow_folder(new.flow.name)
    recovery = old.recovery if old else "recovery"
    if old and not plan.unchanged:
        recovery = next_folder(path.name for path in folder.glob("recovery*"))
    number = Versions(folder).next_number()
    highest = dict(old.highest) if old else {}
    return Deployed(new.source, new.text, digest(new.text), new.overrides, highest, number, recovery)


def carry_over(settings: Settings, new: Candidate, plan: DeployPlan, old: Deployed | None, record: Deployed) -> None:
    """Bring states and spilled events of the deployed version to the next one; no worker of the flow may run."""
    if old is None or old.recovery == record.recovery:
        return
    folder, edit = settings.flow_folder(new.flow.name), plan.edit()
    copy_edited(folder / old.recovery, folder / record.recovery, new.flow.name, edit, fingerprints(new.flow))
    rename_spills(folder, edit.renamed)


def hand_over(settings: Settings, new: Candidate, plan: DeployPlan, old: Deployed | None, record: Deployed) -> None:
    """Make the next version the deployed one: its states, then its record, or nothing at all."""
    try:
        carry_over(settings, new, plan, old, record)
        write_record(settings, new.flow.name, record)
    except BaseException:
        carry_back(settings, new.flow.name, plan)
        raise


def carry_back(settings: Settings, name: str, plan: DeployPlan) -> None:
    """Undo what `carry_over` has moved; no worker of the flow may run."""
    rename_spills(settings.flow_folder(name), {new: old for old, new in plan.edit().renamed.items()})


def clean_up(settings: Settings, name: str, plan: DeployPlan, record: Deployed) -> None:
    """Remove what a version that runs has left behind: states of the one before, spilled events that are given up."""
    folder = settings.flow_folder(name)
    sweep(folder, record.recovery)
    forget_spills(folder, plan.edit().reset)


def version_of(new: Candidate, plan: DeployPlan, old: Deployed | None, record: Deployed, author: str) -> Version:
    """Return the entry among the versions."""
    return Version(
        number=record.number, digest=record.version, author=author, time=now(), source=new.source, text=new.text,
        overrides=new.overrides, nodes=plan.nodes, sections=plan.sections, tables=plan.tables,
        diff=difference(old.text if old else "", new.text),
    )  # fmt: skip


def deploy_at_rest(
    settings: Settings, new: Candidate, consent: Consent, author: str, highest: dict[str, int]
) -> DeployPlan:
    """Make a version the deployed one while the flow does not run; raises DeployRefused."""
    name = new.flow.name
    plan, old = plan_of(settings, new)
    check(plan, consent)
    if old and old.number and plan.unchanged and (old.text, old.overrides) == (new.text, new.overrides):
        write_record(settings, name, msgspec.structs.replace(old, highest=highest | old.highest))
    else:
        record = next_record(settings, new, plan, old)
        record.highest = highest | record.highest
        carry_over(settings, new, plan, old, record)
        version = version_of(new, plan, old, record, author)
        version.outcome = "deployed"
        Versions(settings.flow_folder(name)).write(version)
        write_record(settings, name, record)
    if kept := read_record(settings, name):
        clean_up(settings, name, plan, kept)
    return plan
