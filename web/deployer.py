"""Deploy while it runs: plan, tables, drain, states, start, health, and back again when that fails.

The gateway goes on accepting all the time; what comes meanwhile waits in the inbox. One record on disk says which
version runs with which states, so a crash at any moment leaves the old version or the new one, whole.
"""

import asyncio
import os
import time
from collections.abc import Callable

import msgspec
import structlog

from engine import deployment
from engine.deploy_plan import DeployPlan
from engine.deployed import UNDEPLOYED, Deployed, place_flow, read_flow, read_record, record_path, write_record
from engine.deployment import Candidate
from engine.errors import EnvironmentFault, FlowInvalid, MillstreamError, UsageFault
from engine.flow import Flow
from engine.settings import lock
from engine.supervisor import Process
from engine.versions import Version, Versions
from web.beginnings import beginnings
from web.channels import ChannelHub
from web.deploy_order import Order, Outcome
from web.deploy_tables import DeployTables
from web.flow_host import FlowHost
from web.inside import Inside
from web.routes import FlowRoutes, path_conflicts

DRAIN_TIME, START_TIME, STEADY_TIME = 30.0, 30.0, 1.0
LOCK_TIME = 20.0
SETTLE_TIME = 2.0
STEP = 0.02
log = structlog.get_logger()


class DeployFailed(MillstreamError):
    """A version was given up while it was deployed; the one before runs again."""


class Deployer:
    """Changes what the gateway runs; one deploy at a time, and one flow's deploy touches no other flow."""

    def __init__(
        self, inside: Inside, hosts: dict[str, FlowHost], routes: FlowRoutes,
        make_hub: Callable[[Flow], ChannelHub], told: Callable[[Process], None],
    ) -> None:  # fmt: skip
        self._inside, self._hosts, self._routes = inside, hosts, routes
        self._settings = inside.settings
        self._make_hub, self._told = make_hub, told
        self._tables = DeployTables(inside.database)
        self._one = asyncio.Lock()

    async def plan(self, order: Order) -> DeployPlan:
        """Return what a deploy would do; raises FlowInvalid."""
        new = self._candidate(order)
        await self._settled(new.flow.name)
        return (await self._planned(new))[0]

    async def _settled(self, name: str) -> None:
        """Wait a moment until the states on disk hold what has come so far: the plan says how many keys they have."""
        if name not in self._hosts:
            return
        head, end = self._inside.inboxes[name].head, time.monotonic() + SETTLE_TIME
        while self._runs(name) and self._inside.durable(name) < head:
            if time.monotonic() > end:
                return
            await asyncio.sleep(STEP)

    def _runs(self, name: str) -> bool:
        return self._inside.processes[name].state == "running"

    def _candidate(self, order: Order) -> Candidate:
        new = deployment.candidate(self._settings, order.text, order.source, order.overrides)
        others = [flow for name, flow in self._inside.definitions.items() if name != new.flow.name]
        if findings := path_conflicts([*others, new.flow]):
            raise FlowInvalid(findings)
        return new

    async def _planned(self, new: Candidate) -> tuple[DeployPlan, Deployed | None]:
        plan, old = await asyncio.to_thread(deployment.plan_of, self._settings, new)
        before = read_flow(self._settings, old) if old else None
        await self._tables.look(plan, before, new.flow, self._others(new.flow.name))
        return plan, old

    def _others(self, name: str) -> list[Flow]:
        return [flow for other, flow in self._inside.definitions.items() if other != name]

    async def deploy(self, order: Order, author: str, *, rolled_back_to: int = 0) -> Outcome:
        """Deploy a version; raises FlowInvalid, DeployRefused, DeployFailed, and UsageFault while another runs."""
        if self._one.locked():
            raise UsageFault("another deploy is going on; try again when it is done")
        async with self._one:
            began = time.monotonic()
            new = self._candidate(order)
            await self._settled(new.flow.name)
            plan, old = await self._planned(new)
            runs = new.flow.name in self._hosts
            if plan.unchanged and runs and not order.restart and old and old.text == order.text:
                return Outcome(new.flow.name, "unchanged", old.number, plan)
            deployment.check(plan, order.consent)
            version = await self._carry_out(new, plan, old, order, author, rolled_back_to)
            what = "restarted" if plan.unchanged else "deployed"
            return Outcome(new.flow.name, what, version.number, plan, time.monotonic() - began)

    async def _carry_out(
        self, new: Candidate, plan: DeployPlan, old: Deployed | None, order: Order, author: str, back_to: int
    ) -> Version:
        name, versions = new.flow.name, Versions(self._settings.flow_folder(new.flow.name))
        record = deployment.next_record(self._settings, new, plan, old)
        version = deployment.version_of(new, plan, old, record, author)
        version.rolled_back_to = back_to
        versions.write(version)
        log.info("deploy begins", flow=name, version=record.number, author=author)
        try:
            change = self._change(new, old)
            await self._tables.add(*change)
            record.highest = await self._tables.highest(new.flow, record.highest)
            await (self._switch if name in self._hosts else self._begin)(new, old, record, order)
        except Exception as fault:
            version.outcome, version.reason = "failed", str(fault) or type(fault).__name__
            versions.write(version)
            log.error("deploy failed", flow=name, version=record.number, reason=version.reason)
            raise
        version.outcome = "deployed"
        versions.write(version)
        log.info("deployed", flow=name, version=record.number)
        if order.destructive:
            await self._tables.drop(*change)
        return version

    def _change(self, new: Candidate, old: Deployed | None) -> tuple[Flow | None, Flow, list[Flow]]:
        before = read_flow(self._settings, old) if old else None
        return before, new.flow, self._others(new.flow.name)

    async def _switch(self, new: Candidate, old: Deployed | None, record: Deployed, order: Order) -> None:
        """Put a version in the place of the one that runs, which goes on until the next worker has loaded."""
        name = new.flow.name
        host, before, plan = self._hosts[name], self._inside.definitions[name], DeployPlan(name, [])
        await self._loaded(host, record)
        try:
            await self._drain(before, new.flow)
            await host.stop_worker()
            plan = await self._hand_over(new, old, record, order)
            await self._started(host, place_flow(new.flow, self._settings, record.highest))
        except BaseException:
            await asyncio.shield(self._back(before, old, plan))
            raise
        deployment.clean_up(self._settings, name, plan, record)

    async def _loaded(self, host: FlowHost, record: Deployed) -> None:
        """Let the next worker load the version; raises DeployFailed when it cannot, and nothing has happened."""
        try:
            await host.load_worker(record)
        except BaseException as fault:
            await asyncio.shield(host.forget_loaded())
            if isinstance(fault, EnvironmentFault):
                raise DeployFailed(f"its worker does not load it: {fault}") from fault
            raise

    async def _drain(self, before: Flow, after: Flow) -> None:
        """Stop what is not received any more, and let the old version process what came of it."""
        gone = {n.name for n in before.section("sources")} - {n.name for n in after.section("sources")}
        if not gone:
            return
        nodes = {name: node for name, node in before.nodes.items() if name not in gone}
        await self._show(msgspec.structs.replace(before, nodes=nodes))
        head, end = self._inside.inboxes[before.name].head, time.monotonic() + DRAIN_TIME
        while self._runs(before.name) and self._inside.done(before.name) < head:
            if time.monotonic() > end:
                raise DeployFailed(f"the old version did not process what had come within {DRAIN_TIME:g} s")
            await asyncio.sleep(STEP)

    async def _hand_over(self, new: Candidate, old: Deployed | None, record: Deployed, order: Order) -> DeployPlan:
        """With no worker running: plan again for this moment, carry the states over and write the record."""
        name = new.flow.name
        patience = f"a worker of '{name}' does not end"
        locked = await asyncio.to_thread(lock, self._settings.flow_folder(name) / "worker.lock", patience, LOCK_TIME)
        try:
            plan, _ = await self._planned(new)
            deployment.check(plan, order.consent)
            await self._tables.alter(*self._change(new, old))
            await asyncio.to_thread(deployment.hand_over, self._settings, new, plan, old, record)
        finally:
            os.close(locked)
        return plan

    async def _show(self, flow: Flow) -> None:
        """Serve a version: its paths, channels and sources."""
        self._serve(flow)
        await self._hosts[flow.name].receive(flow)

    def _serve(self, flow: Flow) -> None:
        """Serve a version's paths and channels."""
        name = flow.name
        self._inside.add(flow, self._tables.metadata(flow))
        if name not in self._inside.hubs:
            self._inside.hubs[name] = self._make_hub(flow)
        else:
            hub = self._inside.hubs[name]
            hub.replace(flow.channels)
            hub.on_message = self._inside.receiver(flow)
            hub.publish(beginnings(flow))
        self._routes.replace(list(self._inside.definitions.values()))

    async def _started(self, host: FlowHost, flow: Flow) -> None:
        """Serve a version, start its worker and wait until that has run for a moment; raises DeployFailed."""
        await host.follow(flow)
        self._serve(flow)
        process = host.start_worker()
        await host.receive(flow)
        if not await host.until(lambda p: p.state == "running" or _ends(p), START_TIME):
            raise DeployFailed(f"its worker did not start within {START_TIME:g} s")
        if _ends(process) or await host.until(_ends, STEADY_TIME):
            raise DeployFailed(f"its worker ends: {process.last_error}")

    async def _back(self, before: Flow, old: Deployed | None, plan: DeployPlan) -> None:
        """Run the version before again, with its states as they were."""
        host = self._hosts[before.name]
        await host.forget_loaded()
        await host.stop_worker()
        if old is not None:
            write_record(self._settings, before.name, old)
        await asyncio.to_thread(deployment.carry_back, self._settings, before.name, plan)
        await host.follow(before)
        await self._show(before)
        host.start_worker()
        await host.until(lambda process: process.state in ("running", "parked"), START_TIME)

    async def _begin(self, new: Candidate, old: Deployed | None, record: Deployed, order: Order) -> None:
        """Run a flow that did not run before; `old` is there where it was deployed some time ago."""
        name = new.flow.name
        host = FlowHost(name, self._inside, self._told)
        host.open()
        self._hosts[name] = host
        deployed = record_path(self._settings, name).exists()
        try:
            await self._hand_over(new, old, record, order)
            await self._started(host, place_flow(new.flow, self._settings, record.highest))
        except BaseException:
            await asyncio.shield(self._forget(name))
            if old is not None and deployed:
                write_record(self._settings, name, old)
            else:
                record_path(self._settings, name).unlink(missing_ok=True)
            raise

    async def _forget(self, name: str) -> None:
        """Let go of a flow: nothing of it is served or received any more; its data stay."""
        host = self._hosts.pop(name)
        self._inside.definitions.pop(name, None)
        self._routes.replace(list(self._inside.definitions.values()))
        await host.close()
        if hub := self._inside.hubs.pop(name, None):
            hub.close()
        host.close_inbox()
        self._inside.remove(name)

    async def undeploy(self, name: str) -> None:
        """Stop a flow and take it out of what is deployed; its inbox, states and versions stay on disk."""
        if name not in self._hosts:
            raise UsageFault(f"a flow that runs ({', '.join(self._hosts)}); got '{name}'")
        async with self._one:
            await self._forget(name)
            path = record_path(self._settings, name)
            path.replace(path.with_name(UNDEPLOYED))

    async def rollback(self, name: str, to: int, order: Order, author: str) -> Outcome:
        """Deploy the text of an earlier version (0: the last one before this that ran)."""
        record = read_record(self._settings, name)
        if record is None:
            raise UsageFault(f"a flow that is deployed; '{name}' is not")
        versions = Versions(self._settings.flow_folder(name))
        version = versions.get(to) if to else versions.before(record.number)
        again = msgspec.structs.replace(
            order, text=version.text, source=version.source, overrides=version.overrides, restart=False
        )
        return await self.deploy(again, author, rolled_back_to=version.number)


def _ends(process: Process) -> bool:
    return process.restarts > 0 or process.state == "parked"
