"""What a client has not taken yet: bounded, and of each kept event only its last value."""

from web.channel_message import Message

FRAMES = 1_000
BYTES = 1 << 20


class Backlog:
    """Messages in order. A kept event gives way to its next value; the rest count against both bounds."""

    def __init__(self, frames: int = FRAMES, size: int = BYTES) -> None:
        self.conflated = 0
        self._frames, self._size = frames, size
        self._bytes = 0
        self._waiting: dict[object, Message] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def fill(self) -> float:
        """Return how near the bounds are, 0 to 1."""
        return min(1.0, max(len(self._waiting) / self._frames, self._bytes / self._size))

    def add(self, message: Message) -> bool:
        """Take a message; False: the bounds are reached, the client is too slow."""
        key: object = (message.event, message.room) if message.keep else id(message)
        old = self._waiting.pop(key, None)
        if old is not None:
            self.conflated += 1
            self._bytes -= len(old.body)
        self._waiting[key] = message
        self._bytes += len(message.body)
        return len(self._waiting) <= self._frames and (self._bytes <= self._size or len(self._waiting) == 1)

    def take(self) -> Message:
        """Return the oldest message; raises KeyError when there is none."""
        key = next(iter(self._waiting), None)
        message = self._waiting.pop(key)
        self._bytes -= len(message.body)
        return message

    def clear(self) -> None:
        """Forget everything."""
        self._waiting.clear()
        self._bytes = 0
