"""The database's part of a deploy: what is added before the change, altered at it, and dropped after it."""

from collections.abc import Iterable

from sqlalchemy import MetaData
from sqlalchemy.ext.asyncio import AsyncEngine

from engine.appended import appended_tables
from engine.deploy_plan import DeployPlan
from engine.flow import Flow
from engine.table_changes import TableChange, apply_changes, table_changes
from engine.tables import highest, to_sqlalchemy

KEPT = "; it stays where --destructive is not given"


class DeployTables:
    """Finds and makes the changes of tables between two versions; never what another flow declares too is dropped."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    def metadata(self, flow: Flow) -> MetaData:
        """Return the tables of a flow as the database has them."""
        return to_sqlalchemy(flow.tables, appended_tables(flow))

    async def look(self, plan: DeployPlan, before: Flow | None, after: Flow, others: Iterable[Flow]) -> None:
        """Write into the plan what will change."""
        changes = await self._changes(before, after, others)
        plan.tables = [str(change) + (KEPT if change.optional else "") for change in changes]
        plan.destructive = [str(change) for change in changes if change.destructive and not change.optional]
        plan.refused = [str(change) for change in changes if change.refused]
        plan.unchanged = plan.unchanged and not changes

    async def _changes(self, before: Flow | None, after: Flow, others: Iterable[Flow]) -> list[TableChange]:
        known = self.metadata(before) if before else None
        shared = [self.metadata(flow) for flow in others]
        return await table_changes(self._engine, self.metadata(after), views(after), known, shared)

    async def add(self, before: Flow | None, after: Flow, others: Iterable[Flow]) -> None:
        """Make what is added: the version that still runs does not mind."""
        await self._apply(after, [change for change in await self._changes(before, after, others) if change.early])

    async def alter(self, before: Flow | None, after: Flow, others: Iterable[Flow]) -> None:
        """Change what the new version needs and the old one would mind; no worker runs."""
        changes = [c for c in await self._changes(before, after, others) if not c.early and not c.optional]
        await self._apply(after, changes)

    async def drop(self, before: Flow | None, after: Flow, others: Iterable[Flow]) -> None:
        """Drop what the new version, which runs, does not have any more."""
        await self._apply(after, [change for change in await self._changes(before, after, others) if change.optional])

    async def _apply(self, flow: Flow, changes: list[TableChange]) -> None:
        if changes:
            await apply_changes(self._engine, self.metadata(flow), views(flow), changes, destructive=True)

    async def highest(self, flow: Flow, known: dict[str, int]) -> dict[str, int]:
        """Return the serials that a flow counts on from; for a new table, the highest id that is there."""
        found = dict(known)
        for name, table in self.metadata(flow).tables.items():
            if name in flow.tables and name not in found and "id" in table.c:
                found[name] = await highest(self._engine, table, "id")
        return found


def views(flow: Flow) -> dict[str, str]:
    """Return the views of a flow: name to the table that each shows."""
    return {name: table.view for name, table in flow.tables.items() if table.view}
