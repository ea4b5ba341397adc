"""One compiled stretch of stateless nodes: it takes runs of events and gives what arrives at each port."""

import linecache
from collections.abc import Callable, Mapping
from typing import Any
from zlib import crc32

from engine.codegen import StageWriter
from engine.dead import DeadLetter, dead_letter
from engine.errors import EventFault
from engine.event import Event
from engine.flow import Flow
from engine.keyed import SHARDS
from engine.outputs import COUNTS, DEAD, Outputs

Run = tuple[str, list[Any]]


class Stage:
    """A compiled stretch: `run(runs)` returns what arrives at each port; `counts` says what left each node."""

    taps: Mapping[str, Callable[[Event], None]] = {}

    def __init__(self, name: str, flow: Flow, entries: list[str], replying: frozenset[str]) -> None:
        self.name, self.flow, self.entries, self.replying = name, flow, entries, replying
        self.counts: dict[str, int] = {}
        self.source = ""
        self._dead: list[DeadLetter] = []
        self._function = self._compile()

    def run(self, runs: list[Run]) -> list[tuple[str, str, list[Any]]]:
        """Return (port, shard, chunk): sinks have shard "", dead letters go to port "!", counts to "#"."""
        found: list[tuple[str, str, list[Any]]] = []
        counts = [count for output, chunk in runs if output == COUNTS for count in chunk]
        sinks, keyed, counted = self._function(runs, self._drop)
        for name, chunk in zip(self.sinks, sinks, strict=True):
            if chunk:
                found.append((name, "", chunk))
        for name, shards in zip(self.keyed, keyed, strict=True):
            found += [(name, shard, chunk) for shard, chunk in zip(SHARDS, shards, strict=True) if chunk]
            counts.append((f"into {name}", sum(map(len, shards))))
        for name, count in counted:
            if " " not in name:
                self.counts[name] = self.counts.get(name, 0) + count
        dead = [letter for output, letters in runs if output == DEAD for letter in letters] + self._dead
        if dead:
            found.append((DEAD, "", [letter for letter in dead if self._wanted(letter)]))
            counts += [(f"dropped {letter.node}", 1) for letter in dead if not letter.kept]
            self._dead = []
        counts += counted
        if counts := [count for count in counts if count[1]]:
            found.append((COUNTS, "", counts))
        return found

    def _drop(self, node: str, event: Event, fault: Exception) -> None:
        self._dead.append(dead_letter(node, event, fault))

    def _wanted(self, letter: DeadLetter) -> bool:
        """Tell whether a dead letter is kept, or at least answered."""
        node = self.flow.nodes.get(letter.node)
        letter.kept = node is None or node.on_error != "drop"
        return letter.kept or letter.event.source in self.replying

    def _compile(self) -> Callable[..., Any]:
        writer = StageWriter(self.flow, self.entries, owned=self.name == "sources", taps=self.taps)
        self.source = body = writer.write()
        self.sinks, self.keyed = writer.sinks, writer.keyed
        space = writer.code.constants | {"Event": Event, "EventFault": EventFault, "crc32": crc32, "Outputs": Outputs}
        filename = f"<flow {self.flow.name}: {self.name}>"
        linecache.cache[filename] = (len(body), None, body.splitlines(True), filename)
        exec(compile(body, filename, "exec"), space)  # noqa: S102 - the text is ours: expressions are checked, names bound
        return space["stage"]  # type: ignore[no-any-return]
