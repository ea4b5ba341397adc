"""What counts mean in a flow: the terms of the ledger, and where the books of a node do not balance.

Counts are named by what is counted: a wire (`node`, `node.output`), or one of these and a node's name.

    in        records read for a source                   into      handed to a node with memory
    filtered  its condition did not hold                  came      counted by that node's shards
    copied    put on its fault output as well             left      came out of its shards, by output
    made      emitted beyond one for each event           echo      as copied, by its shards
    dead      went to the dead letters                    timer     faults of its timers, which no event brought
    dropped   failed where `on_error` is `drop`           put       handed to a sink
    refused   refused by a sink: a dead letter            conflated given up by a sink for a later one
                                                          held      more (or fewer) that wait for their turn there
"""

from collections.abc import Iterator, Mapping

import msgspec

from engine.component import PulledSource, Stateful
from engine.flow import Flow, Node
from engine.live_table import TABLES
from engine.retry import ENTRY, RETRY

ELSEWHERE = "elsewhere"


class Settled(msgspec.Struct):
    """What counts come to: `terms` by name, and `where` they do not balance (lost: above 0; doubled: below).

    `taken` are the records that were read from the inbox.
    """

    terms: dict[str, int] = {}
    where: dict[str, int] = {}
    taken: int = 0

    def add(self, term: str, number: int) -> None:
        """Add to a term."""
        self.terms[term] = self.terms.get(term, 0) + number

    def miss(self, node: str, number: int) -> None:
        """Note what is missing at a node."""
        if found := self.where.pop(node, 0) + number:
            self.where[node] = found


class Accounts:
    """The accounts of one flow; `settle` is a pure function of counts."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._takers: dict[str, int] = {}
        for node in flow.nodes.values():
            for wire in node.inputs:
                self._takers[str(wire)] = self._takers.get(str(wire), 0) + 1

    def settle(self, counts: Mapping[str, int]) -> Settled:
        """Return what the counts of any stretch of time come to."""
        return _Settling(self._flow, self._takers, counts).all()


class _Settling:
    def __init__(self, flow: Flow, takers: Mapping[str, int], counts: Mapping[str, int]) -> None:
        self._flow, self._takers, self._counts = flow, takers, counts
        self._found = Settled()

    def all(self) -> Settled:
        for node in self._flow.nodes.values():
            if node.section == "sinks":
                self._sink(node)
            elif isinstance(node.component, Stateful):
                self._keyed(node, node.component)
            else:
                self._plain(node)
        for wire, takers in self._takers.items():
            self._found.add("branched", (takers - 1) * self._get(wire))
        self._strangers()
        return self._found

    def _get(self, name: str) -> int:
        return self._counts.get(name, 0)

    def _named(self, kind: str) -> Iterator[tuple[str, int]]:
        for name, number in self._counts.items():
            if name.startswith(kind):
                yield name[len(kind) :], number

    def _came(self, node: Node) -> int:
        """Return what came to a node, and account for what did not get into it."""
        name = node.name
        came = sum(self._get(str(wire)) for wire in node.inputs) + self._get(ENTRY + name) + self._get(f"copied {name}")
        if node.section == "sources":
            received = self._get(f"in {name}")
            came += received
            self._found.add("received", received)
            self._found.taken += 0 if isinstance(node.component, PulledSource) else received
        for term in ("filtered", "dead", "dropped"):
            self._found.add(term, self._get(f"{term} {name}"))
            came -= self._get(f"{term} {name}")
        self._found.add("branched", self._get(f"copied {name}"))
        return came

    def _out(self, name: str) -> int:
        """Return what is on the wires of a node; what nothing takes is filtered there."""
        if name not in self._takers:
            self._found.add("filtered", self._get(name))
        return self._get(name) + sum(self._get(wire) for wire in self._side(name))

    def _side(self, name: str) -> list[str]:
        return [wire for wire in self._takers if wire.startswith(f"{name}.")]

    def _plain(self, node: Node) -> None:
        made = self._get(f"made {node.name}")
        self._found.add("made", made)
        self._found.miss(node.name, self._came(node) + made - self._out(node.name))

    def _sink(self, node: Node) -> None:
        name = node.name
        put, refused, conflated = self._get(f"put {name}"), self._get(f"refused {name}"), self._get(f"conflated {name}")
        self._found.add("stored", put - refused - conflated)
        self._found.add("dead", refused)
        self._found.add("dropped", conflated)
        self._found.miss(name, self._came(node) - self._out(name) - put)

    def _keyed(self, node: Node, operator: Stateful) -> None:  # type: ignore[type-arg]
        name, found = node.name, self._found
        left = dict(self._named(f"left {name}."))
        faults, into, came = left.pop("!", 0), self._get(f"into {name}"), self._get(f"came {name}")
        found.miss(name, self._came(node) + faults - into)
        held = self._get(f"held {name}")
        found.add("in_flight", held)
        found.miss(name, into - came - held)
        wires = {output: f"{name}.{output}" if output else name for output in left}
        side = {wire: self._get(wire) for wire in (name, *self._side(name))}
        out = sum(number for output, number in left.items() if wires[output] in self._takers)
        found.miss(name, out - sum(side.values()))
        echo, timer = self._get(f"echo {name}"), self._get(f"timer {name}")
        found.add("branched", echo)
        found.add("made", timer)
        for output, number in left.items():
            if output in (operator.makes or ()):
                found.add("made", number if wires[output] in self._takers else 0)
            elif wires[output] not in self._takers:
                found.add(operator.unwired.get(output, "filtered"), number)
        passed = sum(number for output, number in left.items() if output not in (operator.makes or ()))
        self._leftover(name, operator, came + timer + echo - faults - passed)

    def _leftover(self, name: str, operator: Stateful, number: int) -> None:  # type: ignore[type-arg]
        """Account for events that came and did not come out."""
        if not operator.leftover:
            self._found.miss(name, number)
        elif operator.makes is None and number < 0:
            self._found.add("made", -number)
        else:
            self._found.add(operator.leftover, number)

    def _strangers(self) -> None:
        """Account for what belongs to no source of the flow: retried dead letters, and sources that are gone."""
        found, nodes = self._found, self._flow.nodes
        for name, number in self._named("in "):
            if name == TABLES:
                found.taken += number
            elif name not in nodes:
                found.add("retried" if name == RETRY else "received", number)
                found.taken += number
                found.miss(ELSEWHERE, number)
        for term in ("dead", "dropped"):
            for name, number in self._named(f"{term} "):
                if name not in nodes:
                    found.add(term, number)
                    found.miss(ELSEWHERE, -number)
        for _, number in self._named(ENTRY):
            found.miss(ELSEWHERE, -number)
