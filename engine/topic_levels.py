"""Levels of topics that become fields: `line/{line}/+/temperature` subscribes to `line/+/+/temperature`."""

import re
from collections.abc import Iterable, Iterator

import msgspec

from engine.topic_filters import matches

LEVEL = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
CACHED = 100_000
_FILTER = re.compile(r"(?:[^#+/]*|\+)(?:/(?:[^#+/]*|\+))*(?:/#)?|#")
_SPACE = b" \t\r\n"


def filter_of(pattern: str) -> str:
    """Return the topic filter of a pattern: a named level is `+`."""
    if "{" not in pattern:
        return pattern
    return "/".join("+" if LEVEL.fullmatch(level) else level for level in pattern.split("/"))


def level_names(pattern: str) -> list[str]:
    """Return the names of a pattern's levels, in order."""
    return [found[1] for level in pattern.split("/") if (found := LEVEL.fullmatch(level))]


def check_pattern(pattern: str) -> Iterator[str]:
    """Yield what is wrong with a pattern, each as what is expected."""
    wanted, names = filter_of(pattern), level_names(pattern)
    if not pattern or not _FILTER.fullmatch(wanted):
        yield f"a topic filter (+ and # stand alone between slashes, # last); got '{pattern}'"
    elif len(names) > len(set(names)) or "{" in wanted:
        yield f"levels like {{line}}, each name once; got '{pattern}'"


class TopicLevels:
    """The named levels of a source's patterns; the first pattern that a topic falls under counts."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns = [(filter_of(pattern), dict(_places(pattern))) for pattern in patterns]
        self._fields: dict[str, dict[str, str]] = {}
        self._tails: dict[str, bytes] = {}

    def fields(self, topic: str) -> dict[str, str]:
        """Return the fields that a topic gives."""
        found = self._fields.get(topic)
        if found is None:
            levels = topic.split("/")
            places = next((places for wanted, places in self._patterns if matches(wanted, topic)), {})
            found = {name: levels[at] for at, name in places.items()}
            if len(self._fields) >= CACHED:
                self._fields.clear()
            self._fields[topic] = found
        return found

    def joined(self, payload: bytes, topic: str) -> bytes:
        """Return a JSON object with the topic's fields behind its own, so that they win; what is no object as it is.

        Text is put in, for to decode and encode would cost more than all else.
        """
        tail = self._tails.get(topic)
        if tail is None:
            tail = msgspec.json.encode(self.fields(topic))[1:]
            if len(self._tails) >= CACHED:
                self._tails.clear()
            self._tails[topic] = tail
        text = payload.strip(_SPACE)
        if tail == b"}" or text[:1] != b"{" or text[-1:] != b"}":
            return payload
        head = text[:-1].rstrip(_SPACE)
        return head + (tail if head == b"{" else b"," + tail)


def _places(pattern: str) -> Iterator[tuple[int, str]]:
    for at, level in enumerate(pattern.split("/")):
        if found := LEVEL.fullmatch(level):
            yield at, found[1]


def levels_of(source: object) -> TopicLevels | None:
    """Return the named levels of a source's topics; None where it has none."""
    topics = getattr(source, "topics", ())
    if not isinstance(topics, list) or not any(level_names(topic) for topic in topics):
        return None
    return TopicLevels(topics)
