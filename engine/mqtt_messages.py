"""The PUBLISHes of one read, column by column: at some ten thousand a second an object for each would cost most."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, overload

from engine.mqtt_codec import Message, frame

SIMPLE = frozenset((0x30, 0x31, 0x32, 0x33))
"""The first bytes of PUBLISHes of QoS 0 and 1 that are not marked as sent again (MQTT 5, 3.3.1)."""
MOST_NAMES = 10_000
_names: dict[bytes, str] = {}


class Messages(Sequence[Message]):
    """Messages in the order of arrival; `packets` is 0 at QoS 0. `retained`, `dups` and `qos_2` are positions."""

    __slots__ = ("dups", "packets", "payloads", "qos_2", "retained", "topics")

    def __init__(self) -> None:
        self.topics: list[str] = []
        self.payloads: list[bytes] = []
        self.packets: list[int] = []
        self.retained: set[int] = set()
        self.dups: set[int] = set()
        self.qos_2: set[int] = set()

    def __len__(self) -> int:
        return len(self.payloads)

    @overload
    def __getitem__(self, at: int) -> Message: ...
    @overload
    def __getitem__(self, at: slice) -> list[Message]: ...
    def __getitem__(self, at: int | slice) -> Message | list[Message]:
        if isinstance(at, slice):
            return [self[place] for place in range(*at.indices(len(self)))]
        packet = self.packets[at]
        at %= len(self)
        qos = 2 if at in self.qos_2 else 1 if packet else 0
        return Message(self.topics[at], self.payloads[at], qos, at in self.retained, at in self.dups, packet, self)

    def __iter__(self) -> Iterator[Message]:
        return map(self.__getitem__, range(len(self)))

    def append(self, message: Message) -> None:
        """Take one message."""
        at = len(self)
        self.topics.append(message.topic)
        self.payloads.append(message.payload)
        self.packets.append(message.packet_id)
        for place, holds in ((self.retained, message.retain), (self.dups, message.dup), (self.qos_2, message.qos == 2)):
            if holds:
                place.add(at)

    def extend(self, others: "Messages") -> None:
        """Take all of others."""
        shift = len(self)
        self.topics += others.topics
        self.payloads += others.payloads
        self.packets += others.packets
        self.retained.update(at + shift for at in others.retained)
        self.dups.update(at + shift for at in others.dups)
        self.qos_2.update(at + shift for at in others.qos_2)

    def only(self, places: Iterable[int]) -> "Messages":
        """Return the messages at these positions."""
        found, places = Messages(), list(places)
        found.topics = [self.topics[at] for at in places]
        found.payloads = [self.payloads[at] for at in places]
        found.packets = [self.packets[at] for at in places]
        for name in ("retained", "dups", "qos_2"):
            if chosen := getattr(self, name):
                setattr(found, name, {new for new, at in enumerate(places) if at in chosen})
        return found

    def fresh(self) -> list[int]:
        """Return the positions of those that the broker had not kept."""
        return [at for at in range(len(self)) if at not in self.retained]


class MqttBatch:
    """Messages of one read, its parts with the index of the source of each, and how many are not committed yet."""

    def __init__(self, number: int, messages: Messages, parts: Sequence[tuple[int, Messages]]) -> None:
        self.number, self.messages, self.parts, self.open = number, messages, parts, len(parts)


class MqttPart(NamedTuple):
    """What of a batch goes to one source; parts are in the order in which the broker sent them."""

    number: int
    place: int
    batch: MqttBatch


def read_run(data: bytes, offset: int, run: Messages, *, properties: bool) -> int:
    """Append the whole PUBLISHes from `offset` on as long as they are simple; return where what is left begins.

    Left is what is not simple, not whole, or malformed. With `properties` (MQTT 5) a simple one has none of them.
    """
    add_topic, add_payload, add_packet = run.topics.append, run.payloads.append, run.packets.append
    total, tail = len(data), 1 if properties else 0
    while offset + 4 < total and data[offset] in SIMPLE:
        head, length, start = data[offset], data[offset + 1], offset + 2
        if length > 0x7F:
            found = frame(data, offset)
            if found is None:
                break
            start, length = found[0], found[1] - found[0]
        end = start + length
        if end > total or length < 2:
            break
        topic_end = start + 2 + (data[start] << 8 | data[start + 1])
        body = topic_end + 2 if head & 2 else topic_end
        if body + tail > end or (tail and data[body]):
            break
        packet = data[topic_end] << 8 | data[topic_end + 1] if head & 2 else 0
        name = data[start + 2 : topic_end]
        topic = _names.get(name) or _named(name)
        if not topic or (head & 2 and not packet):
            break
        if head & 1:
            run.retained.add(len(run.topics))
        add_topic(topic)
        add_payload(data[body + tail : end])
        add_packet(packet)
        offset = end
    return offset


def _named(name: bytes) -> str:
    """Return a topic, or an empty text for what is none. The same bytes give the same text: it is hashed only once."""
    try:
        topic = name.decode()
    except UnicodeDecodeError:
        return ""
    if len(_names) >= MOST_NAMES:
        _names.clear()
    _names[name] = topic
    return topic
