"""Logging in, and tokens: JWTs signed with the key of the environment, of which only current ones are taken."""

import time
from collections.abc import Mapping
from typing import Any

import jwt
import pytest

from tests.packs.car_inspection.line import Line

KEY = "the key of a test, longer than the sixty-four bytes that HS512 is to have"
PATHS = [("GET", "/sensor/result"), ("GET", "/dashboard/summary"), ("POST", "/sensor/result"), ("GET", "/attendance")]


@pytest.fixture(scope="module")
def line_env() -> Mapping[str, str]:
    return {"MILLSTREAM_SECRET": KEY}


def claims(token: str) -> dict[str, Any]:
    return dict(jwt.decode(token, KEY, ["HS256"]))


def statuses(line: Line, headers: Mapping[str, str]) -> set[int]:
    """Return what the paths answer to these headers."""
    body = {"device": "LED", "result": "OK"}
    found = set()
    for method, path in PATHS:
        answer = line.anonymous.request(method, path, headers=headers, json=body if method == "POST" else None)
        found.add(answer.status_code)
    return found


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_a_log_in_answers_a_token(line: Line) -> None:
    answer = line.anonymous.post("/auth/login", json={"username": "admin", "password": line.process.password})
    assert answer.status_code == 200
    body = answer.json()
    assert set(body) == {"access_token", "token_type", "expires_in"}
    assert body["token_type"] == "bearer"
    told = claims(body["access_token"])
    assert body["expires_in"] == told["exp"] - told["iat"] > 0
    assert statuses(line, bearer(body["access_token"])) <= {200, 201}


def test_a_wrong_password_and_an_unknown_name_get_the_same_401(line: Line) -> None:
    line.account("wilma")
    wrong = line.anonymous.post("/auth/login", json={"username": "wilma", "password": "not hers at all"})
    unknown = line.anonymous.post("/auth/login", json={"username": "nobody", "password": "not hers at all"})
    assert wrong.status_code == unknown.status_code == 401
    assert wrong.json() == unknown.json()
    assert "access_token" not in wrong.text


@pytest.mark.parametrize("name", ["' OR '1'='1", "admin'--", 'admin" --', "{{7*7}}", "x" * 5000, "\x00admin"])
def test_a_log_in_with_code_for_a_name_is_a_401(line: Line, name: str) -> None:
    answer = line.anonymous.post("/auth/login", json={"username": name, "password": "' OR '1'='1"})
    assert answer.status_code == 401, answer.text


def test_an_expired_token_is_a_401(line: Line) -> None:
    now = int(time.time())
    told = claims(line.account("wilma")) | {"exp": now - 1}
    assert statuses(line, bearer(jwt.encode(told, KEY, "HS256"))) == {401}
    assert statuses(line, bearer(jwt.encode(told | {"exp": now + 60}, KEY, "HS256"))) <= {200, 201}


def test_a_forged_token_is_a_401(line: Line) -> None:
    told = claims(line.account("wilma"))
    forged = {
        "of another key": jwt.encode(told, KEY + "!", "HS256"),
        "without a signature": jwt.encode(told, "", "none"),
        "of another algorithm": jwt.encode(told, KEY, "HS512"),
        "for a name that is not there": jwt.encode(told | {"sub": "nobody"}, KEY, "HS256"),
        "for another account": jwt.encode(told | {"sub": "admin"}, KEY, "HS256"),
        "without a name": jwt.encode({name: told[name] for name in told if name != "sub"}, KEY, "HS256"),
        "without an end": jwt.encode({name: told[name] for name in told if name != "exp"}, KEY, "HS256"),
        "not a token": "eyJhbGciOiJIUzI1NiJ9",
        "three dots": "...",
    }
    assert {name: statuses(line, bearer(token)) for name, token in forged.items()} == {name: {401} for name in forged}


def test_a_changed_token_is_a_401(line: Line) -> None:
    head, body, signature = line.account("wilma").split(".")
    other = jwt.encode(claims(line.account("wilma")) | {"role": "admin"}, KEY + "!", "HS256").split(".")[1]
    for changed in (f"{head}.{other}.{signature}", f"{head}.{body}.{signature[:-4]}AAAA", f"{head}.{body}."):
        assert statuses(line, bearer(changed)) == {401}


def test_a_role_in_the_token_gives_no_rights(line: Line) -> None:
    told = claims(line.account("vera", "viewer"))
    assert statuses(line, bearer(jwt.encode(told | {"role": "admin"}, KEY, "HS256"))) == {403}


@pytest.mark.parametrize(
    "header",
    ["Basic YWRtaW46YWRtaW4=", "Bearer", "Token {token}", "{token}", "Bearer {token} more", "bearer\t{token}x"],
)
def test_other_authorization_headers_are_a_401(line: Line, header: str) -> None:
    token = line.account("wilma")
    assert statuses(line, {"Authorization": header.replace("{token}", token)}) == {401}
