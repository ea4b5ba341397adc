"""`accounts`: who may log in; works with and without a running gateway."""

import asyncio
import getpass
import secrets
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import AsJson, print_json
from engine.errors import EnvironmentFault
from engine.settings import read_environment

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

accounts = typer.Typer(help="Who may log in, with which role.", no_args_is_help=True)
keys = typer.Typer(help="API keys, for devices and programs that send.", no_args_is_help=True)
accounts.add_typer(keys, name="key")
Name = Annotated[str, typer.Argument(help="The account's name.")]
FromStdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")]


def _with_database(call: "Callable[[AsyncEngine], Awaitable[Any]]") -> Any:
    from sqlalchemy.exc import DBAPIError

    from engine.database import describe, open_database, place
    from web import api_keys  # noqa: F401 - so that its table is made too
    from web.accounts import create_tables

    async def go() -> Any:
        settings = read_environment()
        settings.prepare()
        engine = open_database(settings.database)
        try:
            await create_tables(engine)
            return await call(engine)
        except (DBAPIError, OSError) as fault:
            raise EnvironmentFault(f"{place(engine)}: {describe(fault)}") from fault
        finally:
            await engine.dispose()

    return asyncio.run(go())


def _password(from_stdin: bool) -> tuple[str, bool]:
    """Return the password, and whether it was made here: then it is shown."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\n"), False
    if sys.stdin.isatty():
        return getpass.getpass("Password: "), False
    return secrets.token_urlsafe(12), True


@accounts.command("add")
def add(
    name: Name,
    role: Annotated[str, typer.Option(help="viewer, employee, manager or admin.")],
    password_stdin: FromStdin = False,
) -> None:
    """Add an account; without a terminal and --password-stdin a password is made and printed."""
    from web.accounts import add_account

    password, made = _password(password_stdin)
    _with_database(lambda engine: add_account(engine, name, role, password, by="command line"))
    typer.echo(f"account {name} ({role}) added" + (f", password {password}" if made else ""))


@accounts.command("list")
def list_(json: AsJson = False) -> None:
    """Print all accounts."""
    from web.accounts import list_accounts

    found = _with_database(list_accounts)
    if json:
        print_json(found)
        return
    for account in found:
        typer.echo(f"{account.name:24} {account.role}")


@accounts.command("remove")
def remove(name: Name) -> None:
    """Remove an account; its tokens stop working within seconds."""
    from web.accounts import remove_account

    _with_database(lambda engine: remove_account(engine, name, by="command line"))
    typer.echo(f"account {name} removed")


@accounts.command("password")
def password(name: Name, password_stdin: FromStdin = False) -> None:
    """Set an account's password."""
    from web.accounts import set_password

    text, made = _password(password_stdin)
    _with_database(lambda engine: set_password(engine, name, text, by="command line"))
    typer.echo(f"account {name}: password set" + (f", {text}" if made else ""))


@keys.command("add")
def add_key(name: Name, role: Annotated[str, typer.Option(help="viewer, employee, manager or admin.")]) -> None:
    """Make an API key and print it; it is shown this once only."""
    from web.api_keys import add_key

    typer.echo(_with_database(lambda engine: add_key(engine, name, role, by="command line")))


@keys.command("list")
def list_keys(json: AsJson = False) -> None:
    """Print the names and roles of all API keys."""
    from web.api_keys import list_keys

    found = _with_database(list_keys)
    if json:
        print_json(found)
        return
    for key in found:
        typer.echo(f"{key.name:24} {key.role}")


@keys.command("remove")
def remove_key(name: Name) -> None:
    """Revoke an API key; within seconds nothing is taken under it."""
    from web.api_keys import remove_key

    _with_database(lambda engine: remove_key(engine, name, by="command line"))
    typer.echo(f"key {name} removed")
