"""The pack's board in a real browser, on a real gateway: what people at the line see."""

import json
import os
import random
import subprocess
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from sources.simulate import Distribution
from tests.process import LOCALHOST, ROOT, binary, wait_until
from tests.services import BROWSER, Chromium, Millstream, MillstreamFactory

PACK = ROOT / "flows" / "car_inspection"
HOSTILE = "<img src=x onerror=document.title='harmed'>"
pytestmark = pytest.mark.timeout(240)


class Board:
    """One browser page, driven over the pipes of tests/browser/dashboard.mjs."""

    def __init__(self, chromium: Chromium) -> None:
        environment = os.environ | {"CHROMIUM": chromium.path, "CHROMIUM_FLAGS": json.dumps(chromium.flags)}
        self._process = subprocess.Popen(
            [binary("node", "nodejs"), "dashboard.mjs"],
            cwd=BROWSER, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def do(self, command: str, **given: Any) -> Any:
        """Do one thing and return its answer; what goes wrong shows the page's text."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": command, **given}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the browser's driver has ended"
        told = json.loads(line)
        assert "fault" not in told, f"{command} {given}: {told['fault']}\nthe page:\n{told['page']}"
        return told["answer"]

    def shows(self, selector: str, text: str) -> None:
        """Wait until an element's text is this."""
        self.do("wait", expression=f"document.querySelector({selector!r})?.textContent.trim() === {json.dumps(text)}")

    def texts(self, selector: str) -> list[str]:
        """Return the texts of all elements, in order."""
        found: list[str] = self.do(
            "value", expression=f"[...document.querySelectorAll({selector!r})].map((node) => node.textContent.trim())"
        )
        return found

    def connected(self, state: str = "live") -> None:
        """Wait until the board says that it is in this state."""
        self.do("wait", expression=f"document.querySelector('#link').dataset.state === '{state}'")

    def at_stage(self, car: int, stage: int) -> None:
        """Wait until a car is seen at a stage."""
        self.shows("#car", f"Car {car}")
        self.do("wait", expression=f"document.querySelector('#track').ariaValueNow === '{stage}'")

    def pictures_are_loaded(self, number: int) -> None:
        """Wait until so many pictures of the feed are drawn."""
        loaded = "[...document.querySelectorAll('#feed img')].filter((image) => image.naturalWidth > 0).length"
        self.do("wait", expression=f"{loaded} === {number}")

    def close(self) -> None:
        """End the driver and its browser."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)
        assert self._process.stdout is not None
        self._process.stdout.close()


@pytest.fixture
def board(chromium: Chromium) -> Iterator[Board]:
    driven = Board(chromium)
    yield driven
    driven.close()


def publish(line: Millstream, topic: str, data: Any = None) -> None:
    """Publish as a device does, and wait for the broker's acknowledgement."""
    command = [binary("mosquitto_pub"), "-h", LOCALHOST, "-p", str(line.broker_port), "-q", "1", "-t", topic, "-s"]
    done = subprocess.run(command, input=json.dumps(data).encode(), capture_output=True, timeout=15)
    assert done.returncode == 0, done.stderr


def picture(number: int) -> str:
    return str(Distribution(picture="scratch").draw(random.Random(number), number))


def camera(line: Millstream, *pictures: str) -> None:
    publish(line, "camera01/result", {"result": "DEFECT", "detection": {"result_image": pictures}})


def call(line: Millstream, path: str, token: str = "", data: Any = None) -> Any:
    """Return what the gateway answers."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    method = "GET" if data is None else "POST"
    answer = httpx2.request(method, line.url + path, headers=headers, json=data, timeout=10)
    assert answer.status_code == 200, answer.text
    return answer.json()


def summary(line: Millstream) -> dict[str, Any]:
    token = call(line, "/auth/login", data={"username": "admin", "password": line.password})["access_token"]
    found: dict[str, Any] = call(line, "/dashboard/summary", token)
    return found


def seen_numbers(board: Board) -> dict[str, list[str]]:
    """Return what each tile says: its number and the note under it."""
    names = board.do("value", expression="[...document.querySelectorAll('#numbers > div')].map((of) => of.dataset.of)")
    told = zip(board.texts("#numbers dd"), board.texts("#numbers p"), strict=True)
    return {name: list(number) for name, number in zip(names, told, strict=True)}


def inspect_one_car(line: Millstream, board: Board) -> None:
    """Send a car through the line, and see each step of it."""
    publish(line, "sensor/ult01")
    board.at_stage(1, 1)
    publish(line, "sensor/result", {"device": "LED", "result": "OK"})
    publish(line, "sensor/ult02")
    board.at_stage(1, 2)
    publish(line, "sensor/result", {"device": HOSTILE, "result": "DEFECT"})
    board.shows("#feed .defect .name", HOSTILE.upper())
    publish(line, "sensor/ult03")
    board.at_stage(1, 3)
    camera(line, picture(1), picture(2))
    board.shows("#feed .defect .name", "Camera")
    board.pictures_are_loaded(2)
    board.do("wait", expression="document.querySelector('#numbers [data-of=camera] p').textContent === '1 of 1 view'")


def test_a_car_is_seen_from_the_first_gate_to_its_defects(board: Board, millstream_process: MillstreamFactory) -> None:
    line = millstream_process(PACK)
    board.do("open", url=f"{line.url}/dashboard")
    board.connected()
    board.shows("#car", "Waiting for the first car…")
    assert board.do("value", expression="document.querySelector('#feed .empty').checkVisibility()")
    inspect_one_car(line, board)
    agree_with_the_summary(line, board)
    nothing_was_injected(board)
    a_picture_opens_large(board)
    board.do("reload")
    board.at_stage(1, 3)
    assert board.texts("#feed .defect .name") == ["Camera", HOSTILE.upper()], "without a token, what has just been"
    board.pictures_are_loaded(2)
    nothing_overflows_on_a_phone(board)
    seen = board.do("seen")
    assert seen == {"faults": [], "hosts": [line.url.removeprefix("http://")]}


def agree_with_the_summary(line: Millstream, board: Board) -> None:
    known = summary(line)
    assert (known["total"], known["defect"], known["cars"], known["camera"]["defect"]) == (2, 1, 1, 1)
    assert seen_numbers(board) == {
        "rate": [f"{known['defect_rate']:.1%}", "1 of 2 verdicts"],
        "clean": ["\u2013", "of the latest cars"],
        "total": ["2", f"{known['ok']} OK"],
        "cars": ["1", "in all"],
        "camera": [f"{known['camera']['defect_rate']:.1%}", "1 of 1 view"],
    }
    assert board.texts("#devices .device .name") == [HOSTILE.upper(), "LED", "Camera"]
    assert board.texts("#devices .device .counts") == ["1 of 1", "0 of 1", "1 of 1"]
    assert board.texts("#cars .car .counts") == ["1 OK · 1 defect · camera"]
    assert board.texts("#verdicts li") == ["1 OK", HOSTILE.upper(), "Camera"]


def nothing_was_injected(board: Board) -> None:
    assert board.do("value", expression="document.title") == "Car inspection"
    assert board.do("value", expression="document.querySelectorAll('[onerror], img[src=x]').length") == 0


def a_picture_opens_large(board: Board) -> None:
    large = "document.querySelector('#picture img')"
    board.do("click", selector="#feed .pictures button")
    board.do("wait", expression=f"{large}.naturalWidth === 320 && {large}.getBoundingClientRect().width > 600")
    first = board.do("value", expression=f"{large}.src")
    board.do("press", key="ArrowRight")
    board.do("wait", expression=f"{large}.src !== {json.dumps(first)} && {large}.naturalWidth === 320")
    board.do("press", key="Escape")
    board.do("wait", expression="!document.querySelector('#picture').open")


def nothing_overflows_on_a_phone(board: Board) -> None:
    board.do("size", width=390, height=844)
    board.do("wait", expression="innerWidth === 390")
    assert board.do("value", expression="document.documentElement.scrollWidth") == 390


def test_it_connects_again_by_itself_while_the_simulator_runs(
    board: Board, millstream_process: MillstreamFactory
) -> None:
    line = millstream_process(PACK, PACK / "simulator")
    board.do("open", url=f"{line.url}/dashboard")
    board.at_stage(1, 2)
    line.stop()
    board.connected("waiting")
    assert board.texts("#car") == ["Car 1"], "what was seen stays"
    line.start()
    board.connected()
    board.do("wait", expression="Number(document.querySelector('#car').textContent.replace('Car ', '')) > 1")
    wait_until(lambda: counted(board) == summary(line)["total"] > 3, "the board and the summary agree", within=60)
    assert board.do("seen")["faults"] == []


def counted(board: Board) -> int:
    return int(seen_numbers(board)["total"][0])


def test_who_is_not_logged_in_is_asked_to(board: Board, millstream_process: MillstreamFactory) -> None:
    line = millstream_process(PACK, env={"OPEN_DASHBOARD": "false"})
    publish(line, "sensor/ult01")
    publish(line, "sensor/result", {"device": "WHEEL", "result": "DEFECT"})
    camera(line, picture(3))
    board.do("open", url=f"{line.url}/dashboard")
    board.do("wait", expression="document.querySelector('#login').open")
    board.connected("refused")
    assert board.texts("#feed .defect") == []
    log_in(board, "not the password")
    board.shows("#login-fault", "The name or the password is wrong.")
    log_in(board, line.password)
    board.connected()
    board.do("wait", expression="document.querySelectorAll('#feed .defect').length === 2")
    line.stop()
    line.start()
    board.do("reload")
    board.connected()
    board.do("wait", expression="document.querySelectorAll('#feed .defect').length === 2")
    assert sorted(board.texts("#feed .defect .name")) == ["Camera", "WHEEL"], "from the database: the gateway is new"
    board.pictures_are_loaded(1)
    board.do("wait", expression="document.querySelector('#numbers [data-of=cars] p').textContent.startsWith('today')")
    board.do("click", selector="#account")
    board.do("wait", expression="document.querySelector('#login').open")


def log_in(board: Board, password: str) -> None:
    board.do("fill", selector="#login [name=username]", text="admin")
    board.do("fill", selector="#login [name=password]", text=password)
    board.do("click", selector="#login form button")
