"""The operations' API on the web port: who may, and what is answered to what cannot be done."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import millstream
from tests.deploy.site import FLOW
from tests.services import Millstream


class Api:
    """The API as a program with a token calls it."""

    def __init__(self, process: Millstream) -> None:
        self.process = process
        self.tokens = {"": ""}

    def log_in(self, name: str, password: str) -> None:
        status, answer = self.call("POST", "/auth/login", {"username": name, "password": password})
        assert status == 200, answer
        self.tokens[name] = answer["access_token"]

    def call(self, method: str, path: str, body: Any = None, by: str = "") -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.tokens[by]}"} if by else {})
        request = urllib.request.Request(self.process.url + path, data, headers, method=method)  # noqa: S310 - our own
        try:
            with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
                return response.status, json.loads(response.read())
        except urllib.error.HTTPError as refused:
            return refused.code, json.loads(refused.read())


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    folder = tmp_path_factory.mktemp("api")
    file = folder / "line.yaml"
    file.write_text(FLOW)
    with Millstream(folder, file) as process:
        given = millstream(
            process.data,
            "accounts",
            "add",
            "mara",
            "--role",
            "manager",
            "--password-stdin",
            given="a long password 1\n",
        )
        assert given.returncode == 0, given.stderr
        made = Api(process)
        made.log_in("admin", process.password)
        made.log_in("mara", "a long password 1")
        yield made


def test_only_an_administrator_may_deploy(api: Api) -> None:
    assert api.call("POST", "/api/deploy", {"text": FLOW})[0] == 401
    assert api.call("POST", "/api/deploy", {"text": FLOW}, by="mara")[0] == 403
    assert api.call("GET", "/api/flows", by="mara")[1]["flows"]["line"]["state"] == "running"


def test_a_deploy_by_the_api_is_made_by_the_account(api: Api) -> None:
    text = FLOW.replace("n: {type: int}", "n: {type: int, max: 7}")
    status, answer = api.call("POST", "/api/deploy?author=somebody", {"text": text, "source": "line.yaml"}, by="admin")
    assert (status, answer["outcome"], answer["number"]) == (200, "deployed", 2)
    versions = api.call("GET", "/api/flows/line/versions", by="admin")[1]["versions"]
    assert [(version["author"], version["deployed"]) for version in versions][1] == ("admin", True)


def test_what_cannot_be_done_says_why(api: Api, tmp_path: Path) -> None:
    status, answer = api.call("POST", "/api/plan", {"text": FLOW.replace("validate", "vaildate")}, by="admin")
    assert (status, answer["error"]["code"]) == (422, "flow_invalid")
    assert answer["error"]["findings"][0]["line"] == 9
    assert api.call("POST", "/api/plan", {"texts": 1}, by="admin")[1]["error"]["code"] == "invalid"
    assert api.call("GET", "/api/flows/lime/versions", by="admin")[0] == 404
    assert api.call("POST", "/api/flows/line/rollback", {"to": 99}, by="admin")[1]["error"]["message"].endswith(
        "got 99"
    )
