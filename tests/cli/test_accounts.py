"""`accounts`: with and without a running gateway, and everything that is refused."""

import json
import re
from pathlib import Path

import httpx2
import pytest

from tests.cli.command import millstream, write
from tests.cli.conftest import Call
from tests.process import LOCALHOST, free_port
from tests.services import MillstreamFactory

STDIN = "--password-stdin"


def test_adding_listing_and_removing(call: Call) -> None:
    added = call("accounts", "add", "kim", "--role", "employee", STDIN, given="a long password\n")
    assert (added.exit_code, added.stdout) == (0, "account kim (employee) added\n")
    call("accounts", "add", "boss", "--role", "admin", STDIN, given="a long password\n")
    assert [line.split() for line in call("accounts", "list").stdout.splitlines()] == [
        ["boss", "admin"],
        ["kim", "employee"],
    ]
    assert call("accounts", "remove", "kim").stdout == "account kim removed\n"
    names = [account["name"] for account in json.loads(call("accounts", "list", "--json").stdout)]
    assert names == ["boss"]


def test_api_keys_are_made_listed_and_revoked(call: Call) -> None:
    made = call("accounts", "key", "add", "press-7", "--role", "employee")
    assert (made.exit_code, bool(re.fullmatch(r"msk_[\w-]{43}\n", made.stdout))) == (0, True)
    listed = call("accounts", "key", "list")
    assert listed.stdout.split() == ["press-7", "employee"]
    assert made.stdout.strip() not in call("accounts", "key", "list", "--json").stdout
    assert call("accounts", "key", "add", "press-7", "--role", "viewer").exit_code == 2
    assert call("accounts", "key", "add", "other", "--role", "boss").exit_code == 2
    assert call("accounts", "key", "remove", "press-7").stdout == "key press-7 removed\n"
    gone = call("accounts", "key", "remove", "press-7")
    assert (gone.exit_code, "a key's name; got 'press-7'" in gone.stderr) == (2, True)
    assert call("accounts", "key", "list").stdout == ""


def test_a_password_is_made_where_nobody_can_type_one(call: Call) -> None:
    added = call("accounts", "add", "kim", "--role", "viewer")
    assert re.fullmatch(r"account kim \(viewer\) added, password [\w-]{16}\n", added.stdout)
    changed = call("accounts", "password", "kim")
    assert re.fullmatch(r"account kim: password set, [\w-]{16}\n", changed.stdout)


def test_no_listing_shows_a_password_or_its_hash(call: Call) -> None:
    call("accounts", "add", "kim", "--role", "viewer", STDIN, given="a long password\n")
    for listed in (call("accounts", "list").stdout, call("accounts", "list", "--json").stdout):
        assert "argon2" not in listed
        assert "password" not in listed


@pytest.mark.parametrize(
    ("arguments", "given", "fault"),
    [
        (("add", "kim", "--role", "boss"), "a long password", "one of viewer, employee, manager, admin; got 'boss'"),
        (("add", "kim", "--role", "viewer"), "short", "a password of 8 to 1024 characters; got 5"),
        (("add", "kim", "--role", "viewer"), "", "a password of 8 to 1024 characters; got 0"),
        (("add", "no name", "--role", "viewer"), "a long password", "a name of 1 to 64 letters, digits and"),
        (("add", "ada", "--role", "viewer"), "a long password", "a name that is not taken; there is an account 'ada'"),
        (("password", "adda"), "a long password", "an account's name; got 'adda' did you mean 'ada'?"),
        (("password", "ada"), "short", "a password of 8 to 1024 characters; got 5"),
    ],
)
def test_what_is_refused(call: Call, arguments: tuple[str, ...], given: str, fault: str) -> None:
    call("accounts", "add", "ada", "--role", "admin", STDIN, given="a long password\n")
    refused = call("accounts", *arguments, STDIN, given=f"{given}\n")
    assert refused.exit_code == 2
    assert refused.stderr.startswith(f"millstream: {fault}")
    assert refused.stderr.count("\n") == 1


def test_the_last_administrator_stays(call: Call) -> None:
    call("accounts", "add", "ada", "--role", "admin", STDIN, given="a long password\n")
    refused = call("accounts", "remove", "ada")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "role admin" in refused.stderr


def test_an_unknown_account_cannot_be_removed(call: Call) -> None:
    assert call("accounts", "remove", "nobody").exit_code == 2


def test_a_role_is_asked_for(call: Call) -> None:
    assert call("accounts", "add", "kim").exit_code == 2


def test_a_database_that_is_away(tmp_path: Path) -> None:
    url = f"mysql://user:hidden@{LOCALHOST}:{free_port()}/name"
    done = millstream(tmp_path / "data", "accounts", "list", env={"MILLSTREAM_DATABASE": url})
    assert done.returncode == 3
    assert done.stderr.startswith("millstream: database mysql+aiomysql://user:***@")
    assert "error 2003" in done.stderr


def test_beside_a_running_gateway(tmp_path: Path, millstream_process: MillstreamFactory) -> None:
    process = millstream_process(write(tmp_path / "tiny.yaml"))

    def log_in(password: str) -> int:
        body = {"username": "kim", "password": password}
        return httpx2.post(f"{process.url}/auth/login", json=body, timeout=20, trust_env=False).status_code

    assert log_in("the first one") == 401
    add = ("accounts", "add", "kim", "--role", "employee", STDIN)
    assert millstream(process.data, *add, given="the first one\n").returncode == 0
    assert log_in("the first one") == 200
    assert millstream(process.data, "accounts", "password", "kim", STDIN, given="the second one\n").returncode == 0
    assert (log_in("the first one"), log_in("the second one")) == (401, 200)
    listed = json.loads(millstream(process.data, "accounts", "list", "--json").stdout)
    assert {account["name"]: account["role"] for account in listed} == {"admin": "admin", "kim": "employee"}
    assert millstream(process.data, "accounts", "remove", "kim").returncode == 0
    assert log_in("the second one") == 401
