"""The one Bytewax sink of a worker: it hands chunks to the outlet's lanes and snapshots when all is durable."""

from collections.abc import Callable
from typing import Any

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from engine.outlet import Outlet


class OutletPartition(StatefulSinkPartition[Any, bytes]):
    """`write_batch` queues, `snapshot` waits: an epoch ends only when its rows are durable."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet

    def write_batch(self, items: list[tuple[str, list[Any]]]) -> None:
        self._outlet.put(items)

    def snapshot(self) -> bytes:
        self._outlet.flush()
        return self._outlet.snapshot()


class OutletSink(FixedPartitionedSink[Any, bytes]):
    """Builds the one partition of the outlet."""

    def __init__(self, outlet: Outlet, restored: Callable[[], None]) -> None:
        self._outlet, self._restored = outlet, restored

    def list_parts(self) -> list[str]:
        return ["outlet"]

    def build_part(self, step_id: str, for_part: str, resume_state: bytes | None) -> OutletPartition:
        if resume_state:
            self._outlet.restore(resume_state)
            self._restored()
        return OutletPartition(self._outlet)
