"""Reading an inbox by offset, in any process, while its writer writes."""

from collections.abc import Generator
from contextlib import closing
from pathlib import Path

from engine import inbox_file
from engine.block import Block
from engine.errors import EnvironmentFault
from engine.event import stream_prefix
from engine.gap import Gap


class InboxReader:
    """Reads an inbox by offset, in any process, while the writer writes. Raises EnvironmentFault when there is none.

    `inside` tells whether the last read ended inside of a commit.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection = inbox_file.open_readable(path)
        with inbox_file.read_faults(path):
            self.stream = inbox_file.stream(self._connection)
        self.prefix = stream_prefix(self.stream)
        self._open: Block | None = None
        self.inside = False

    def read(self, offset: int, limit_records: int = 2_000) -> list[Block]:
        """Return up to `limit_records` records after `offset` (0: from the beginning), in order; empty at the head.

        Raises EnvironmentFault when they were trimmed, or when the inbox has never been that far.
        """
        found: list[Block] = []
        wanted, room = offset + 1, limit_records
        with inbox_file.read_faults(self.path), closing(self._blocks(wanted)) as blocks:
            for block in blocks:
                self._check_first(block, wanted)
                self._open = block
                if block.first < wanted or len(block.payloads) > room:
                    block = block.slice(wanted - block.first, wanted - block.first + room)
                found.append(block)
                wanted, room = wanted + len(block.payloads), room - len(block.payloads)
                if not room:
                    break
            if not found:
                self._check_head(offset)
            self.inside = bool(found and self._open and found[-1].last < self._open.last)
        return found

    def _blocks(self, offset: int) -> Generator[Block, None, None]:
        last = self._open
        if last and last.first <= offset <= last.last:
            yield last
            offset = last.last + 1
        yield from inbox_file.blocks_from(self._connection, offset)

    def _check_first(self, block: Block, wanted: int) -> None:
        if block.first > wanted:
            found = f"the oldest that is kept is {block.first}"
            raise EnvironmentFault(f"{self.path}: expected the event at offset {wanted}; it was trimmed, {found}")

    def _check_head(self, offset: int) -> None:
        head, _ = inbox_file.head(self._connection)
        if offset > head:
            raise EnvironmentFault(f"{self.path}: expected events up to offset {offset}; the inbox ends at {head}")

    def gaps(self, since: int = 0) -> list[Gap]:
        """Return the gaps in arrival time that end after `since`, in order."""
        with inbox_file.read_faults(self.path):
            return inbox_file.gaps(self._connection, since)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
