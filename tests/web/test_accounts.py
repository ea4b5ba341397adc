"""Accounts, log-in and tokens: who gets in, who is kept out, and what is written down."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from argon2 import PasswordHasher
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from engine.database import open_database
from engine.errors import UsageFault
from engine.refusal import Refusal
from tests.web.gateway_site import PASSWORD, QUICK, SECRET, Site, error
from web import accounts
from web.guard import COOKIE, KEPT_SECONDS
from web.login import FAILURES, Logins
from web.tokens import issue

WRONG = "wrong password"


@pytest.fixture
async def engine(tmp_path: Path, quick_passwords: None) -> Any:
    made = open_database(f"sqlite:///{tmp_path}/accounts.db")
    await accounts.create_tables(made)
    yield made
    await made.dispose()


class Clock:
    """A clock that stands still until it is told."""

    def __init__(self) -> None:
        self.now = datetime(2025, 3, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


async def refused(logins: Logins, name: str, password: str = WRONG) -> Refusal:
    with pytest.raises(Refusal) as caught:
        await logins.check(name, password)
    return caught.value


async def test_the_first_administrator_is_made_once(engine: AsyncEngine) -> None:
    password = await accounts.first_admin(engine)
    assert password is not None
    assert await Logins(engine, QUICK).check("Admin", password) == "admin"
    assert await accounts.first_admin(engine) is None
    assert [(a.name, a.role) for a in await accounts.list_accounts(engine)] == [("admin", "admin")]


@pytest.mark.parametrize(
    ("name", "role", "password", "text"),
    [
        ("", "viewer", PASSWORD, "a name of 1 to 64"),
        ("a b", "viewer", PASSWORD, "a name of 1 to 64"),
        ("x" * 65, "viewer", PASSWORD, "a name of 1 to 64"),
        ("ann", "employe", PASSWORD, "did you mean 'employee'?"),
        ("ann", "viewer", "short", "a password of 8 to 1024"),
        ("ROOT", "viewer", PASSWORD, "a name that is not taken"),
    ],
)
async def test_an_account_that_cannot_be(engine: AsyncEngine, name: str, role: str, password: str, text: str) -> None:
    await accounts.add_account(engine, "root", "admin", PASSWORD)
    with pytest.raises(UsageFault, match=text.replace("?", r"\?")):
        await accounts.add_account(engine, name, role, password)


async def test_the_last_administrator_stays(engine: AsyncEngine) -> None:
    await accounts.add_account(engine, "root", "admin", PASSWORD)
    with pytest.raises(UsageFault, match="role admin to be left"):
        await accounts.remove_account(engine, "root")
    with pytest.raises(UsageFault, match="role admin to be left"):
        await accounts.set_role(engine, "root", "viewer")
    with pytest.raises(UsageFault, match="did you mean 'root'"):
        await accounts.set_password(engine, "rot", PASSWORD)
    assert [a.role for a in await accounts.list_accounts(engine)] == ["admin"]


async def test_passwords_are_kept_as_argon2id_and_steps_are_written_down(engine: AsyncEngine) -> None:
    await accounts.add_account(engine, "ann", "admin", PASSWORD, by="root")
    await accounts.set_password(engine, "ann", "another password")
    async with engine.connect() as connection:
        kept = await connection.scalar(select(accounts.ACCOUNTS.c.password_hash))
    assert str(kept).startswith("$argon2id$")
    lines = await accounts.list_audit(engine)
    assert [(line["account"], line["action"]) for line in lines] == [("ann", "password set"), ("ann", "added")]
    assert PASSWORD not in str(lines)


@pytest.mark.parametrize("name", ["ann", "nobody"])
async def test_five_failures_lock_out_for_a_minute_whether_or_not_the_name_is_known(
    engine: AsyncEngine, name: str
) -> None:
    await accounts.add_account(engine, "ann", "viewer", PASSWORD)
    clock = Clock()
    logins = Logins(engine, QUICK, clock)
    for _ in range(FAILURES):
        assert (await refused(logins, name)).status == 401
    locked = await refused(logins, name, PASSWORD)
    assert (locked.status, locked.code, locked.headers) == (429, "locked_out", {"Retry-After": "60"})
    clock.now += timedelta(seconds=60)
    assert (await refused(logins, name)).status == 401
    if name == "ann":
        assert await logins.check(name, PASSWORD) == "ann"


async def test_attempts_side_by_side_are_counted_one_by_one(engine: AsyncEngine) -> None:
    await accounts.add_account(engine, "ann", "viewer", PASSWORD)
    logins = Logins(engine, QUICK)
    refusals = await asyncio.gather(*(refused(logins, "ann") for _ in range(20)))
    assert sorted(refusal.status for refusal in refusals) == [401] * FAILURES + [429] * (20 - FAILURES)


async def test_a_success_forgets_failures_and_old_hashes_are_made_anew(engine: AsyncEngine) -> None:
    await accounts.add_account(engine, "ann", "viewer", PASSWORD)
    stronger = PasswordHasher(time_cost=2, memory_cost=64, parallelism=1)
    logins = Logins(engine, stronger)
    for _ in range(2):
        for _ in range(FAILURES - 1):
            assert (await refused(logins, "ann")).status == 401
        assert await logins.check("ann", PASSWORD) == "ann"
    async with engine.connect() as connection:
        kept = await connection.scalar(select(accounts.ACCOUNTS.c.password_hash))
    assert not stronger.check_needs_rehash(str(kept))


async def test_log_in(site: Site) -> None:
    answer = await site.client.post("/auth/login", json={"username": " Employee ", "password": PASSWORD})
    assert set(answer.json()) == {"access_token", "token_type", "expires_in"}
    assert (answer.json()["token_type"], answer.json()["expires_in"]) == ("bearer", 8 * 3600)
    claims = jwt.decode(answer.json()["access_token"], SECRET, ["HS256"])
    assert (claims["sub"], claims["role"], claims["exp"] - claims["iat"]) == ("employee", "employee", 8 * 3600)
    assert answer.headers["cache-control"] == "no-store"
    assert (await site.get("/auth/me")).json() == {"username": "employee", "role": "employee"}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b'{"username": "employee", "password": "wrong password"}', 401, "wrong_credentials"),
        (b'{"username": "nobody", "password": "wrong password"}', 401, "wrong_credentials"),
        (b'{"username": "\' OR 1=1 --", "password": "wrong"}', 401, "wrong_credentials"),
        (b'{"username": "' + b"x" * 5000 + b'", "password": "' + b"y" * 5000 + b'"}', 401, "wrong_credentials"),
        (b'{"username": {"$ne": 1}, "password": "wrong"}', 422, "invalid_credentials"),
        (b'{"username": "employee"}', 422, "invalid_credentials"),
        (b"", 400, "invalid_json"),
        (b"[" * 1000, 400, "too_deep"),
        (b" " * 20_000, 413, "too_large"),
    ],
)
async def test_what_is_no_log_in(site: Site, body: bytes, status: int, code: str) -> None:
    error(await site.client.post("/auth/login", content=body), status, code)


def forged(**changes: Any) -> str:
    claims = {
        "sub": "admin",
        "role": "admin",
        "iat": int(time.time()),
        "exp": int(time.time()) + 24 * 3600,
        "jti": "a",
        "ver": "b",
    }
    return jwt.encode({k: v for k, v in (claims | changes).items() if v is not None}, SECRET, "HS256")


@pytest.mark.parametrize(
    ("token", "code"),
    [
        (issue("admin", "admin", "x", SECRET, time.time() - 9 * 3600), "token_expired"),
        (issue("admin", "admin", "x", b"another secret of at least 32 bytes"), "token_invalid"),
        (issue("admin", "admin", "x", SECRET), "token_invalid"),
        (issue("nobody", "admin", "x", SECRET), "token_invalid"),
        (jwt.encode({"sub": "admin", "role": "admin"}, "", "none"), "token_invalid"),
        (forged(exp=None), "token_invalid"),
        (forged(sub=5), "token_invalid"),
        (forged(exp="never"), "token_invalid"),
        ("x", "token_invalid"),
        ("a.b.c", "token_invalid"),
        ("é" * 10, "token_invalid"),
    ],
)
async def test_tokens_that_are_not_taken(site: Site, token: str, code: str) -> None:
    answer = await site.client.get("/auth/me", headers={b"Authorization": f"Bearer {token}".encode()})
    error(answer, 401, code)
    assert answer.headers["www-authenticate"].startswith("Bearer ")


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512", "none"])
async def test_the_algorithm_is_ours_whatever_the_token_says(site: Site, algorithm: str) -> None:
    claims = jwt.decode(await site.token("employee"), SECRET, ["HS256"])
    site.tokens["employee"] = jwt.encode(claims, "" if algorithm == "none" else SECRET, algorithm)
    assert (await site.get("/auth/me")).status_code == (200 if algorithm == "HS256" else 401)


async def test_roles_are_in_order_and_nobody_is_nobody(site: Site) -> None:
    error(await site.get("/sensor/result", None), 401, "token_missing")
    error(await site.get("/sensor/result", "viewer"), 403, "forbidden")
    for role in ("employee", "manager", "admin"):
        assert (await site.get("/sensor/result", role)).status_code == 200


async def test_a_removed_account_loses_access(site: Site) -> None:
    assert (await site.get("/sensor/result")).status_code == 200
    await accounts.remove_account(site.services.database, "employee")
    await accounts.add_account(site.services.database, "employee", "employee", PASSWORD)
    site.app.guard.forget("employee")
    error(await site.get("/sensor/result"), 401, "token_invalid")


async def test_another_process_takes_a_role_away_within_seconds(site: Site) -> None:
    assert (await site.get("/people", "manager")).status_code == 200
    await accounts.set_role(site.services.database, "manager", "viewer")
    async with asyncio.timeout(KEPT_SECONDS + 5):
        while (answer := await site.get("/people", "manager")).status_code == 200:  # noqa: ASYNC110 - the end of two seconds
            await asyncio.sleep(0.05)
    error(answer, 403, "forbidden")


async def test_another_password_ends_the_sessions(site: Site) -> None:
    await site.token("employee")
    await accounts.set_password(site.services.database, "employee", "another password")
    site.app.guard.forget("employee")
    error(await site.get("/sensor/result"), 401, "token_invalid")


async def test_a_token_in_the_address_reads_only_and_is_no_parameter(site: Site) -> None:
    token = await site.token("employee")
    assert (await site.get("/sensor/result", None, params={"token": token})).status_code == 200
    error(await site.post("/attendance/check-in", None, params={"token": token}), 401, "token_missing")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 201),
        ({"Origin": "SITE"}, 201),
        ({"Origin": "https://elsewhere.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
async def test_a_cookie_changes_nothing_for_another_site(site: Site, headers: dict[str, str], status: int) -> None:
    sent = {name: value.replace("SITE", site.url) for name, value in headers.items()}
    sent["Cookie"] = f"{COOKIE}={await site.token('employee')}"
    answer = await site.post("/attendance/check-in", None, headers=sent)
    assert answer.status_code == status, answer.text
