"""What a process waits for from outside: which nodes have answers to fetch, and which have no room for more events."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from engine.asking import Asking, Question


class Ready(msgspec.Struct, frozen=True, gc=False):
    """Answers may have come for what waits at this node; sent through the dataflow as marks are."""

    node: str


class Asker(Protocol):
    """Where a node puts its questions; each is settled some time, in any order."""

    @property
    def retries(self) -> int:
        """How often something was asked again."""

    @property
    def open(self) -> bool:
        """Whether the circuit is open, so that nobody is asked."""

    def put(self, questions: Sequence[Question]) -> None:
        """Take questions without waiting."""

    async def close(self) -> None:
        """Ask no more, and let go of the connections."""


Opener = Callable[[str, Asking, Callable[[], None]], Asker]


class Outstanding:
    """Shared by the desks of one process and its feed. `open_asker` makes the asker of a node when it is first needed.

    The feed asks for `ready` and `full` on the dataflow's thread; an asker tells from any thread that answers came.
    """

    def __init__(self, open_asker: Opener) -> None:
        self.wake: Callable[[], None] = lambda: None
        self._open = open_asker
        self._told: deque[str] = deque()
        self._full: set[str] = set()
        self._askers: list[Asker] = []
        self.counting: dict[str, Callable[[], dict[str, int]]] = {}

    def asker(self, node: str, operator: Asking) -> Asker:
        """Return a new asker of a node."""
        self._askers.append(self._open(node, operator, lambda: self.tell(node)))
        return self._askers[-1]

    def tell(self, node: str) -> None:
        """Tell that answers have come; from any thread."""
        self._told.append(node)
        self.wake()

    def ready(self) -> list[Ready]:
        """Return what is to be sent to the nodes for which answers have come."""
        if not self._told:
            return []
        return [Ready(name) for name in dict.fromkeys(self._told.popleft() for _ in range(len(self._told)))]

    def room(self, node: str, there_is: bool) -> None:
        """Note whether a node has room for more events."""
        if there_is:
            self._full.discard(node)
        else:
            self._full.add(node)

    @property
    def full(self) -> bool:
        """Tell whether nothing is to be read: a node has no room."""
        return bool(self._full)

    def counts(self, node: str) -> dict[str, int]:
        """Return how many events wait at a node, went on without an answer, and how its asker is."""
        return self.counting[node]() if node in self.counting else {}

    async def close(self) -> None:
        """End what is under way, on the loop where it is; what waits is in the last snapshot."""
        for asker in self._askers:
            await asker.close()
