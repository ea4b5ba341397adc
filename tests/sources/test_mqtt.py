"""Topic filters of the `mqtt` source; what it does on a wire is in the pack's tests."""

import pytest

from sources.mqtt import matches


@pytest.mark.parametrize(
    ("topic_filter", "topic", "expected"),
    [
        ("sensor/result", "sensor/result", True),
        ("sensor/result", "sensor/result/1", False),
        ("sensor/+", "sensor/result", True),
        ("sensor/+", "sensor/", True),
        ("sensor/+", "sensor/a/b", False),
        ("sensor/+/b", "sensor/a/b", True),
        ("sensor/#", "sensor", True),
        ("sensor/#", "sensor/a/b", True),
        ("#", "sensor/a", True),
        ("#", "$SYS/uptime", False),
        ("+/uptime", "$SYS/uptime", False),
        ("$SYS/#", "$SYS/uptime", True),
        ("$share/group/sensor/+", "sensor/a", True),
        ("$share/group/sensor/+", "group/sensor/a", False),
    ],
)
def test_a_topic_falls_under_a_filter(topic_filter: str, topic: str, expected: bool) -> None:
    assert matches(topic_filter, topic) is expected
