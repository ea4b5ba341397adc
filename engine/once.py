"""What is stored once: the keys of what came in, and the answers that requests with a key were given.

A sender that has no answer sends its request again under the same key. The keys are in the inbox, written with what
they stand for, so this holds over any restart.
"""

import sqlite3
from hashlib import blake2b

from engine.arrival import Reply
from engine.arrivals import Arrivals
from engine.errors import KeyReused

MOST_KEYS = 1_000_000
MOST_ANSWERS = 256 << 20  # bytes of all answers that are kept
LONGEST_ANSWER = 64 << 10
MOST_WAITING = 1_000
STEP = 1_000
_FIND = "select once.offset, digest, status, body from once left join answer using (offset) where key = ?"


class OnceKeys:
    """The keys in an inbox, for the thread that writes it; all raise sqlite3.Error.

    `answers` are on their way into the file, (offset, answer) each.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._fresh: dict[bytes, tuple[int, bytes]] = {}
        self._count = self._number("select count(*) from once")
        self._bytes = self._number("select coalesce(sum(length(body)), 0) from answer")
        self._written = 0
        self.answers: list[tuple[int, Reply]] = []

    def _number(self, query: str) -> int:
        return int(self._connection.execute(query).fetchone()[0])

    @property
    def waits(self) -> bool:
        """Tell whether there is something to write."""
        return bool(self._fresh or self.answers)

    def sift(self, arrivals: Arrivals, first: int) -> dict[int, int]:
        """Return {position: offset} of what is stored already; the rest is new, and will be at `first` and after.

        Raises KeyReused, and takes nothing then, when a key is stored for something else.
        """
        groups = [(places, _hash(key), digest) for places, key, digest in arrivals.groups() if key]
        for _, key, digest in groups:
            offset, stored, _ = self._find(key)
            if offset and stored != digest:
                raise KeyReused("this key was used for something else")
        repeated: dict[int, int] = {}
        for places, key, digest in groups:
            offset, _, _ = self._find(key)
            if offset:
                repeated.update(zip(places, range(offset, offset + len(places)), strict=True))
            else:
                self._fresh[key] = (first + places.start - len(repeated), digest)
        return repeated

    def answer(self, arrivals: Arrivals) -> Reply | None:
        """Return the answer that is kept of what has the key of a single arrival."""
        return self._find(_hash(arrivals.keys[0][0]))[2]

    def _find(self, key: bytes) -> tuple[int, bytes, Reply | None]:
        if fresh := self._fresh.get(key):
            return *fresh, None
        row = self._connection.execute(_FIND, [key]).fetchone()
        if row is None:
            return 0, b"", None
        offset, digest, status, body = row
        return offset, digest, None if status is None else Reply(status, body)

    def keep(self, offset: int, answer: Reply) -> None:
        """Put an answer on its way; the oldest give way when they cannot be written for long."""
        if len(answer.body) <= LONGEST_ANSWER:
            self.answers.append((offset, answer))
            del self.answers[:-MOST_WAITING]

    def write(self, now: int) -> None:
        """Write what is new, inside the caller's transaction."""
        if self._fresh:
            rows = [(offset, key, now, digest) for key, (offset, digest) in self._fresh.items()]
            self._connection.executemany("insert into once values (?, ?, ?, ?)", rows)
        self._written = 0
        for offset, answer in self.answers:
            insert = "insert or ignore into answer select ?, ?, ? where exists (select 1 from once where offset = ?)"
            row = [offset, answer.status, answer.body, offset]
            self._written += len(answer.body) * self._connection.execute(insert, row).rowcount

    def commit(self) -> None:
        """Take note that what was written is durable."""
        self._count += len(self._fresh)
        self._fresh.clear()
        self._bytes += self._written
        self.answers.clear()

    def roll_back(self) -> None:
        """Forget the keys of a commit that failed."""
        self._fresh.clear()

    def trim_step(self, oldest: int) -> bool:
        """Forget some keys that are older than a time or too many, and answers that are; True: there may be more.

        The keys of one commit go together: those of one request are all known or none.
        """
        end = self._oldest_keys(oldest) or self._oldest_answers()
        if not end:
            return False
        execute = self._connection.execute
        execute("begin immediate")
        try:
            keys, answers, size = self._drop(*end)
            execute("commit")
        except BaseException:
            execute("rollback")
            raise
        self._count, self._bytes = self._count - keys, self._bytes - size
        return keys + answers > 0

    def _oldest_keys(self, oldest: int) -> tuple[int, int] | None:
        """Return before which offset keys are dropped, and before which answers."""
        rows = self._connection.execute("select offset, time from once order by offset limit ?", [STEP]).fetchall()
        surplus = self._count - MOST_KEYS
        old = [row for at, row in enumerate(rows) if row[1] < oldest or at < surplus]
        if not old:
            return None
        next_commit = "select offset from once where offset > ? and time > ? order by offset limit 1"
        row = self._connection.execute(next_commit, old[-1]).fetchone()
        end = row[0] if row else old[-1][0] + 1
        return end, end

    def _oldest_answers(self) -> tuple[int, int] | None:
        surplus = self._bytes - MOST_ANSWERS
        query = "select offset, length(body) from answer order by offset limit ?"
        end = 0
        for offset, size in self._connection.execute(query, [STEP]).fetchall() if surplus > 0 else ():
            if surplus <= 0:
                break
            surplus, end = surplus - size, offset + 1
        return (0, end) if end else None

    def _drop(self, keys: int, answers: int) -> tuple[int, int, int]:
        execute = self._connection.execute
        size = execute("select coalesce(sum(length(body)), 0) from answer where offset < ?", [answers]).fetchone()[0]
        dropped = execute("delete from once where offset < ?", [keys]).rowcount
        return dropped, execute("delete from answer where offset < ?", [answers]).rowcount, size


def _hash(key: str) -> bytes:
    return blake2b(key.encode(errors="surrogatepass"), digest_size=16).digest()
