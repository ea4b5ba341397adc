"""`run --watch`: deploy a flow file whenever it is saved."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from watchfiles import Change, awatch

from engine.errors import FlowInvalid, MillstreamError
from web.deploy_order import Order
from web.deployer import Deployer

AUTHOR = "watch"
TOGETHER = 200  # milliseconds in which saves count as one


class Watching:
    """Watches the files of the flows that run; `say` prints what became of a save."""

    def __init__(
        self, files: Sequence[Path], overrides: Mapping[str, str], deployer: Deployer, say: Callable[[str], None]
    ) -> None:
        self._files, self._overrides = {file.resolve() for file in files}, dict(overrides)
        self._deployer, self._say = deployer, say

    async def run(self) -> None:
        """Watch until cancelled. Folders are watched, since many editors replace a file when they save."""
        folders = {file.parent for file in self._files}
        async for changes in awatch(*folders, debounce=TOGETHER, recursive=False, watch_filter=self._ours):
            for path in sorted({Path(name) for _, name in changes}):
                if path.exists():
                    await self._deploy(path)

    def _ours(self, _change: Change, name: str) -> bool:
        return Path(name) in self._files

    async def _deploy(self, path: Path) -> None:
        """Deploy one file; what is wrong with it is said, and the version before runs on."""
        content = await asyncio.to_thread(path.read_bytes)
        order = Order(content.decode(errors="replace"), str(path), self._overrides)
        try:
            found = await self._deployer.deploy(order, AUTHOR)
        except FlowInvalid as fault:
            self._say(f"watch    {path.name}: not deployed:\n{fault}")
        except MillstreamError as fault:
            self._say(f"watch    {path.name}: not deployed: {fault}")
        else:
            self._say(f"watch    {found.flow}: {found.outcome}, version {found.number}")
