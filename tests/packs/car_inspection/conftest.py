"""The pack on both backends; what a module's tests share is one running process."""

from collections.abc import Iterator, Mapping

import pytest

from tests.packs.car_inspection.line import Backend, Line, running_line
from tests.packs.car_inspection.live import Listen, listener
from tests.services import MariaDB, Mosquitto


@pytest.fixture(scope="module", params=["embedded", "services"])
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """The embedded defaults, then a Mosquitto and a MariaDB of the distribution: two variables make the difference."""
    if request.param == "embedded":
        yield Backend("embedded", {}, None)
        return
    broker = Mosquitto(tmp_path_factory.mktemp("broker"))
    database: MariaDB = request.getfixturevalue("mariadb")
    broker.start()
    env = {"MILLSTREAM_MQTT": broker.url, "MILLSTREAM_DATABASE": database.database("smart_factory")}
    try:
        yield Backend("services", env, broker.port)
    finally:
        broker.stop()


@pytest.fixture(scope="module")
def line_env() -> Mapping[str, str]:
    """Further variables for the module's process; a module overrides it."""
    return {}


@pytest.fixture(scope="module")
def line(backend: Backend, line_env: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    """The running pack of this module."""
    with running_line(tmp_path_factory.mktemp("line"), backend, line_env) as running:
        yield running


@pytest.fixture(params=["websocket", "socketio", "socketio-polling", "socketio-websocket"])
def listen(request: pytest.FixtureRequest) -> Listen:
    """What opens a listener of the dashboard, by each transport."""
    return listener(request.param, lambda: request.getfixturevalue("node"))
