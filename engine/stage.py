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
from engine.fused import Fused, Part, Raw, after_text
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
        self.fused: Fused | None = None
        self._after: Callable[[list[Run]], Part] | None = None

    def run(self, runs: list[Run]) -> list[tuple[str, str, list[Any]]]:
        """Return (port, shard, chunk): sinks have shard "", dead letters go to port "!", counts to "#"."""
        if self.flow.live:
            return [found for part in self.flow.live.runs(runs) for found in self._run(part)]
        return self._run(runs)

    def _run(self, runs: list[Run]) -> list[tuple[str, str, list[Any]]]:
        if self._after is not None:
            try:
                return self._found(runs, self._after(runs))
            except Exception:  # the careful way knows which event it was, and what to say of it
                return self._found(runs, self._function(runs, self._drop))
        return self._found(runs, self._function(runs, self._drop))

    def run_raw(self, raw: Raw, runs: list[Run]) -> list[tuple[str, str, list[Any]]]:
        """Return the same for records that were not decoded yet, and runs that come with them."""
        if self.fused is None:
            return self.run([*raw.runs(), *runs])
        if not self.flow.live:
            return self._found(runs, self.fused.run(raw, self._careful))
        found: list[tuple[str, str, list[Any]]] = []
        for blocks in self.flow.live.blocks(raw.blocks):
            part = self.fused.run(Raw(blocks, raw.prefix, raw.decoding), self._careful)
            found += self._found(runs, part)
            runs = []
        return found

    def _careful(self, raw: Raw) -> Part:
        """Take records one by one; what fails is a dead letter."""
        runs = raw.runs()
        self._dead += [letter for output, letters in runs if output == DEAD for letter in letters]
        part: Part = self._function(runs, self._drop)
        return part

    def _found(self, runs: list[Run], part: Part) -> list[tuple[str, str, list[Any]]]:
        found: list[tuple[str, str, list[Any]]] = []
        counts = [count for output, chunk in runs if output == COUNTS for count in chunk]
        sinks, keyed, counted = part
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
        return self._made(self.name, body, space)["stage"]  # type: ignore[no-any-return]

    def fuse(self) -> "Stage":
        """Take whole chunks at once where the chains allow it."""
        if self.name == "sources":
            fused = Fused(self.flow, self.sinks, self.keyed)
            if fused.numbers:
                fused.function = self._made(f"{self.name} fused", fused.source, fused.space)["fused"]
                self.fused = fused
        elif text := after_text(self.flow, self.entries, self.sinks, self.keyed):
            self._after = self._made(f"{self.name} fused", *text)["fused"]
        return self

    def _made(self, name: str, body: str, space: dict[str, Any]) -> dict[str, Any]:
        """Return the names after the text was executed, which is ours: expressions are checked, names are bound."""
        filename = f"<flow {self.flow.name}: {name}>"
        linecache.cache[filename] = (len(body), None, body.splitlines(True), filename)
        exec(compile(body, filename, "exec"), space)  # noqa: S102
        return space
