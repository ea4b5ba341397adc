"""Topic filters of MQTT: which topics fall under them, and which of them a broker needs to be asked for."""

from collections.abc import Iterable


def matches(topic_filter: str, topic: str) -> bool:
    """Tell whether a topic falls under a filter (MQTT 5, 4.7): `$` topics not under a wildcard at the first level."""
    wanted, levels = topic_filter.split("/"), topic.split("/")
    if wanted[0] == "$share":
        wanted = wanted[2:]
    if topic.startswith("$") and wanted[0] in ("#", "+"):
        return False
    for index, level in enumerate(wanted):
        if level == "#":
            return True
        if index >= len(levels) or level not in ("+", levels[index]):
            return False
    return len(wanted) == len(levels)


def covers(wide: str, narrow: str) -> bool:
    """Tell whether every topic under one filter falls under another, so that a broker need not be asked for both."""
    ours, theirs = wide.split("/"), narrow.split("/")
    if "$share" in (ours[0], theirs[0]) or (ours[0] in ("+", "#") and theirs[0].startswith("$")):
        return wide == narrow
    for at, level in enumerate(ours):
        if level == "#":
            return True
        if at >= len(theirs) or theirs[at] == "#" or level not in ("+", theirs[at]):
            return False
    return len(ours) == len(theirs)


def subscriptions(wanted: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return each filter with the highest quality of service that is asked for it; what another one covers is left out.

    The other one then has at least the quality of what it covers.
    """
    found: dict[str, int] = {}
    for topic, qos in wanted:
        found[topic] = max(qos, found.get(topic, 0))
    wild = [topic for topic in found if "+" in topic or "#" in topic]
    for topic in list(found):
        wide = next((other for other in wild if other != topic and other in found and covers(other, topic)), None)
        if wide is not None:
            found[wide] = max(found[wide], found.pop(topic))
    return list(found.items())


class Filters:
    """The topic filters of a source: one without wildcards is looked up, so that ten thousand of them cost no more."""

    def __init__(self, filters: Iterable[str]) -> None:
        self._wild = [f for f in filters if "+" in f or "#" in f or f.startswith("$share/")]
        self._exact = frozenset(filters) - frozenset(self._wild)

    def take(self, topic: str) -> bool:
        """Tell whether a topic falls under one of them."""
        return topic in self._exact or any(matches(f, topic) for f in self._wild)
