"""What the environment sets: topics, number of pictures, a closed dashboard. The line begins with a stage trigger."""

from collections.abc import Mapping

import pytest
from websockets.exceptions import InvalidStatus

from tests.packs.car_inspection.line import Line
from tests.packs.car_inspection.live import WHOLE, Listen, Socket
from tests.packs.car_inspection.pictures import base64_of, jpeg

TOPICS = {
    "MQTT_TOPIC_ULT01": "halle 3/tor/eins",
    "MQTT_TOPIC_ULT02": "halle 3/tor/zwei",
    "MQTT_TOPIC_ULT03": "halle 3/tor/drei",
    "MQTT_TOPIC_SENSOR_RESULT": "halle 3/urteil",
    "MQTT_TOPIC_CAMERA_RESULT": "halle 3/kamera",
}


@pytest.fixture(scope="module")
def line_env() -> Mapping[str, str]:
    return {**TOPICS, "MAX_DEFECT_IMAGE_COUNT": "2", "OPEN_DASHBOARD": "false"}


@pytest.fixture(scope="module", autouse=True)
def progress(line: Line) -> list[dict[str, object]]:
    """The first thing that ever comes is the trigger of stage 2; what the dashboard heard of it."""
    with Socket(line, token=line.account("anna")) as client:
        client.next("stats")
        line.publish(TOPICS["MQTT_TOPIC_ULT02"], "")
        return client.all_of("car_added", "progress")


def test_a_stage_trigger_before_any_car_opens_one(line: Line, progress: list[dict[str, object]]) -> None:
    added, stage = progress
    assert added == {"car_id": 1}
    assert {name: stage[name] for name in ("car_id", "stage", "stages")} == {"car_id": 1, "stage": 2, "stages": 3}
    line.until(lambda: line.count("car") == 1, "the car's row is there")
    assert [row["id"] for row in line.get("/car/all")] == [1]
    assert line.settled()["cars"] == 1
    line.until(lambda: "before any start trigger" in line.process.output(), "the log says so")


def test_every_topic_is_the_one_that_is_set(line: Line) -> None:
    line.publish(TOPICS["MQTT_TOPIC_ULT01"], "")
    line.until(lambda: line.count("car") == 2, "the next car is there")
    line.publish(TOPICS["MQTT_TOPIC_SENSOR_RESULT"], {"device": "led", "result": "ok"})
    line.publish(TOPICS["MQTT_TOPIC_CAMERA_RESULT"], {"result": "ok"})
    line.until(lambda: line.of_car(2) == [("LED", "OK")], "the row is there")
    line.until(lambda: line.count("camera_result") == 1, "the camera's row is there")


def test_the_usual_topics_are_not_listened_to(line: Line) -> None:
    cars, rows = line.count("car"), line.count("sensor_result")
    for topic in ("sensor/ult01", "sensor/ult02", "sensor/ult03"):
        line.publish(topic, "1")
    line.publish("sensor/result", {"device": "LED", "result": "OK"})
    line.publish(TOPICS["MQTT_TOPIC_SENSOR_RESULT"], {"device": "LAST", "result": "OK"})
    line.until(lambda: line.count("sensor_result", "device = 'LAST'") == 1, "the last one is there")
    assert (line.count("car"), line.count("sensor_result")) == (cars, rows + 1)


def test_as_many_pictures_are_kept_as_is_set(line: Line) -> None:
    pictures = [base64_of(jpeg(number)) for number in range(6)]
    line.publish(TOPICS["MQTT_TOPIC_CAMERA_RESULT"], {"result": "DEFECT", "detection": {"result_image": pictures}})
    line.until(lambda: line.count("defect_image") == 2, "two pictures are there")
    assert line.letters() == []


def test_stages_are_told_by_their_own_topics(line: Line) -> None:
    with Socket(line, token=line.account("anna")) as client:
        client.next("stats")
        for name in ("MQTT_TOPIC_ULT01", "MQTT_TOPIC_ULT02", "MQTT_TOPIC_ULT03"):
            line.publish(TOPICS[name], "1")
        assert [client.next("progress")["stage"] for _ in range(3)] == [1, 2, 3]


def test_a_closed_dashboard_opens_with_a_token(line: Line, listen: Listen) -> None:
    with listen(line, line.account("anna")) as client:
        assert set(client.next("stats")) == WHOLE


@pytest.mark.parametrize("token", [None, "not-a-token"])
def test_a_closed_dashboard_refuses_who_has_none(line: Line, listen: Listen, token: str | None) -> None:
    assert_refused(line, listen, token, 401)


def test_a_closed_dashboard_refuses_a_viewer(line: Line, listen: Listen) -> None:
    assert_refused(line, listen, line.account("vera", "viewer"), 403)


def assert_refused(line: Line, listen: Listen, token: str | None, status: int) -> None:
    try:
        client = listen(line, token)
    except InvalidStatus as fault:
        refused = fault.response.status_code
    else:
        with client:
            socket = isinstance(client, Socket)
            heard = client.next("close" if socket else "connect_error")
            refused = heard["code"] - 4000 if socket else status
        assert "stats" not in [happening.event for happening in client.seen]
    assert refused == status
