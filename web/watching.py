"""`run --watch`: deploy a flow file whenever it is saved, or a file that it includes."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

from watchfiles import Change, awatch

from engine.deployed import surroundings, whole_text
from engine.errors import FlowInvalid, MillstreamError
from engine.flow import Flow
from engine.load import load_all
from engine.settings import Settings
from web.deploy_order import Order
from web.deployer import Deployer

AUTHOR = "watch"
TOGETHER = 200  # milliseconds in which saves count as one


class Watching:
    """Watches the files of the flows that run, given with their `--set` values; `say` prints what became of a save."""

    def __init__(
        self, files: Mapping[Path, dict[str, str]], settings: Settings, deployer: Deployer, say: Callable[[str], None]
    ) -> None:
        self._files = {file.resolve(): overrides for file, overrides in files.items()}
        self._settings, self._deployer, self._say = settings, deployer, say
        self._parts: dict[Path, set[Path]] = {}

    async def run(self) -> None:
        """Watch until cancelled. Folders are watched, since many editors replace a file when they save."""
        for file in self._files:
            await asyncio.to_thread(self._read, file)
        folders = {
            file.parent for file in self._files.keys() | {part for found in self._parts.values() for part in found}
        }
        async for changes in awatch(*folders, debounce=TOGETHER, recursive=False, watch_filter=self._ours):
            changed = {Path(name) for _, name in changes}
            for path in sorted(self._files):
                if path.exists() and changed & {path, *self._parts[path]}:
                    await self._deploy(path)

    def _ours(self, _change: Change, name: str) -> bool:
        return Path(name) in self._files or any(Path(name) in parts for parts in self._parts.values())

    def _read(self, path: Path) -> list[tuple[Flow, str]]:
        """Return the instances of a flow file with their texts, and remember which files they include."""
        flows = load_all(path, surroundings(self._settings, self._files[path]))
        self._parts[path] = {(path.parent / name).resolve() for flow in flows for name in flow.files}
        return [(flow, whole_text(flow)) for flow in flows]

    async def _deploy(self, path: Path) -> None:
        """Deploy one file; what is wrong with it is said, and the version before runs on."""
        for flow, text in await asyncio.to_thread(self._read, path):
            order = Order(text, str(path), self._files[path] | flow.instance)
            try:
                found = await self._deployer.deploy(order, AUTHOR)
            except FlowInvalid as fault:
                self._say(f"watch    {path.name}: not deployed:\n{fault}")
            except MillstreamError as fault:
                self._say(f"watch    {path.name}: not deployed: {fault}")
            else:
                self._say(f"watch    {found.flow}: {found.outcome}, version {found.number}")
