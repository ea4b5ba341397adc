"""What a gateway does before it serves: tables, the first account, and which flows are deployed."""

import asyncio
import getpass
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from engine.database import describe, place
from engine.deployed import deployed_flows, load_deployed, read_record
from engine.deployment import Candidate, Consent, deploy_at_rest
from engine.document import Document
from engine.errors import EnvironmentFault, MillstreamError, Unavailable
from engine.flow import Flow
from engine.tables import create
from engine.versions import Versions
from web.accounts import create_tables, first_admin
from web.deploy_tables import DeployTables, views
from web.inside import Inside

PATIENCE = 60.0


class Preparation:
    """Prepares the flows that are named (none: all that are deployed); `broken` says which of them cannot run, and why.

    `say` prints a line for people.
    """

    def __init__(
        self, inside: Inside, versions: Sequence[Candidate], consent: Consent, say: Callable[[str], None]
    ) -> None:
        self._inside, self._settings, self._database = inside, inside.settings, inside.database
        self._versions, self._consent, self._say = versions, consent, say
        self._tables = DeployTables(inside.database)
        self.broken: dict[str, str] = {}

    async def run(self) -> None:
        """Wait for the database, and prepare; raises EnvironmentFault and DeployRefused."""
        await self._patiently(self._prepare)

    async def _patiently(self, call: Callable[[], Awaitable[None]]) -> None:
        """Call until the database is there, for a minute; a file is there or is not."""
        end, told = time.monotonic() + PATIENCE, ""
        where = place(self._database)
        while True:
            try:
                return await call()
            except (Unavailable, DBAPIError, OSError) as fault:
                reason = str(fault).removeprefix(f"{where}: ") if isinstance(fault, Unavailable) else describe(fault)
                if self._database.dialect.name == "sqlite" or time.monotonic() > end:
                    raise EnvironmentFault(f"{where}: {reason}") from fault
            if reason != told:
                self._say(f"{where} is away, waiting for it: {reason}")
                told = reason
            await asyncio.sleep(1)

    async def _prepare(self) -> None:
        """Make tables and the first account; write what is deployed."""
        await create_tables(self._database)
        for version in self._versions:
            await self._deploy(version)
        for name in [version.flow.name for version in self._versions] or deployed_flows(self._settings):
            self._load(name)
        given = self._settings.admin_password
        password = await first_admin(self._database, given.get_secret_value() if given else None)
        self._say(place(self._database))
        if password and not given:
            self._say(f"account  admin, password {password}   (shown this once)")

    async def _deploy(self, version: Candidate) -> None:
        """Make a version that was named at the start the deployed one."""
        flow, record = version.flow, read_record(self._settings, version.flow.name)
        await create(self._database, self._tables.metadata(flow), views(flow))
        highest = await self._tables.highest(flow, record.highest if record else {})
        plan = deploy_at_rest(self._settings, version, self._consent, getpass.getuser(), highest)
        for change in plan.nodes:
            if not plan.first and change.effect in ("reset", "state migrated"):
                self._say(f"deploy   {flow.name}.{change.node}: {change.effect}, {change.detail}")

    def _load(self, name: str) -> None:
        """Take a deployed flow; one that cannot be read any more is parked, and the others run."""
        try:
            flow, record = load_deployed(self._settings, name)
            Versions(self._settings.flow_folder(name)).settle(record.number)
        except MillstreamError as fault:
            self.broken[name] = str(fault)
            empty = Document(str(self._settings.flow_folder(name) / "deployed.json"))
            flow = Flow(name=name, path=Path(empty.path), document=empty)
        self._inside.add(flow, self._tables.metadata(flow))
