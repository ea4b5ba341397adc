"""The log sink: what stands in the line."""

from structlog.testing import capture_logs

from sinks.log import Log
from tests.sinks.sink_case import Surroundings, event


async def test_a_line_has_the_data_or_the_fields_that_are_named() -> None:
    with capture_logs() as lines:
        for options in ({"message": "seen"}, {"fields": ["a", "gone"], "level": "warning"}):
            async with Surroundings().opened(Log.model_validate(options)) as writer:
                await writer.write([event(1, {"a": 1, "b": "x" * 5_000})])
    assert [(line["event"], line["log_level"]) for line in lines] == [("seen", "info"), ("event", "warning")]
    assert lines[0]["data"].endswith("… (5014 characters)")
    assert lines[1]["data"] == {"a": 1, "gone": None}
    assert (lines[0]["node"], lines[0]["topic"], lines[0]["id"]) == ("out", "sensor/result", f"{1:032x}")
