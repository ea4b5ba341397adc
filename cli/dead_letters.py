"""`deadletters`: list what could not be processed, group it by cause, show it, fix it, retry it, drop it."""

import getpass
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.control import Control, part
from cli.output import AsJson, print_json
from cli.replay import moment_of
from engine.errors import UsageFault
from engine.settings import read_environment

AT_ONCE, AGAIN = 1_000, "in the flow again"


class FlowCommands(typer.core.TyperGroup):
    """Commands on a flow that is named before them; where none follows, options may."""

    def parse_args(self, context: Any, arguments: list[str]) -> list[str]:
        """Parse `FLOW --json` as `--json FLOW`, which is all that a group of commands understands."""
        if len(arguments) > 1 and arguments[1].startswith("-") and not arguments[0].startswith("-"):
            end = next((at for at, word in enumerate(arguments) if at and word in self.commands), len(arguments))
            arguments = [*arguments[1:end], arguments[0], *arguments[end:]]
        return super().parse_args(context, arguments)


deadletters = typer.Typer(
    cls=FlowCommands,
    help="What could not be processed: list it, show it, fix it, put it in again where it failed, or drop it.",
    invoke_without_command=True,
)
Ids = Annotated[
    list[str] | None, typer.Argument(help="Numbers, or ids of events or how they begin.", metavar="[ID]...")
]
NodeName = Annotated[str | None, typer.Option("--node", help="Only letters of this node.")]
CauseText = Annotated[str | None, typer.Option("--cause", help="Only letters of this cause, as the list has it.")]
Since = Annotated[str | None, typer.Option("--since", help="Only what arrived since: a time, or like 30m, 2h, 7d ago.")]
Until = Annotated[str | None, typer.Option("--until", help="Only what arrived until then.")]
State = Annotated[str | None, typer.Option("--state", help="Only letters in this state: new, retried or dropped.")]
Every = Annotated[bool, typer.Option("--all", help="All letters that are new.")]
Sets = Annotated[list[str] | None, typer.Option("--set", help="FIELD=VALUE, the value as JSON or text; repeatable.")]


class Choice:
    """Which letters of which flow, from the options of a command."""

    def __init__(
        self, context: typer.Context, node: str | None, cause: str | None, since: str | None, until: str | None,
        state: str | None, ids: list[str] | None = None, every: bool = False,
    ) -> None:  # fmt: skip
        self.control = Control(read_environment())
        self.path = f"/flows/{part(context.obj)}/deadletters"
        self.query = {
            "node": node,
            "cause": cause,
            "since": _time("--since", since),
            "until": _time("--until", until),
            "state": state,
        }
        self.ids, self.every = ids or None, every

    def each(self, what: str, **body: Any) -> Iterator[dict[str, Any]]:
        """Call for one portion after the other, and yield what became of each."""
        after: int | None = 0
        chosen = {name: value for name, value in self.query.items() if value is not None}
        while after is not None:
            asked = chosen | body | {"ids": self.ids, "all": self.every, "after": after, "limit": AT_ONCE}
            found = self.control.post(f"{self.path}/{what}", asked, author=getpass.getuser())
            yield found
            after = found["next"]

    def total(self) -> int:
        """Return how many letters these are, as far as that is known before."""
        if self.ids:
            return len(self.ids)
        query = self.query | {"state": self.query["state"] or "new"}
        return int(self.control.get(self.path, limit=0, **query)["total"])


@deadletters.callback()
def causes(
    context: typer.Context, flow: Annotated[str, typer.Argument(help="A flow that is deployed.")],
    node: NodeName = None, since: Since = None, until: Until = None, state: State = None, json: AsJson = False,
) -> None:  # fmt: skip
    """Without a command: group the dead letters of a flow by cause, the most frequent first."""
    context.obj = flow
    if context.invoked_subcommand is not None:
        return
    choice = Choice(context, node, None, since, until, state)
    found = choice.control.get(f"{choice.path}/causes", **choice.query)
    if json:
        print_json(found)
        return
    table = _table("letters", "node", "latest", "cause")
    for cause in found["causes"]:
        table.add_row(f"{cause['count']:,}", cause["node"], cause["latest"], cause["cause"])
    _print(table)
    states = ", ".join(f"{many:,} {name}" for name, many in found["states"].items())
    typer.echo(states or "no dead letters")
    if found["full_since"]:
        typer.echo(f"full since {found['full_since']}: the flow waits until some are retried or dropped")


@deadletters.command("list")
def list_(
    context: typer.Context, node: NodeName = None, cause: CauseText = None, since: Since = None, until: Until = None,
    state: State = None, limit: Annotated[int, typer.Option(help="At most so many, the latest ones.")] = 20,
    before: Annotated[int | None, typer.Option(help="Those before this number.")] = None, json: AsJson = False,
) -> None:  # fmt: skip
    """List letters one by one, newest first; each has a number by which commands take it."""
    choice = Choice(context, node, cause, since, until, state)
    found = choice.control.get(choice.path, limit=limit, before=before, **choice.query)
    if json:
        print_json(found)
        return
    table = _table("number", "arrived", "node", "state", "tries", "reason")
    for letter in found["letters"]:
        state_text = letter["state"] + (", edited" if letter["edited"] else "")
        columns = (letter["time"], letter["node"], state_text, str(letter["attempt"]), letter["reason"])
        table.add_row(str(letter["number"]), *columns)
    _print(table)
    typer.echo(f"{len(found['letters'])} of {found['total']:,}")


@deadletters.command()
def show(
    context: typer.Context, id: Annotated[str, typer.Argument(help="Its number, or its event's id.")],
    node: NodeName = None, json: AsJson = False,
) -> None:  # fmt: skip
    """Show a letter with its data, its reason and the values that were looked at."""
    choice = Choice(context, None, None, None, None, None)
    path = f"{choice.path}/{part(id)}" + (f"/{part(node)}" if node else "")
    letters = choice.control.get(path)["letters"]
    if json:
        print_json(letters)
        return
    for number, letter in enumerate(letters):
        typer.echo(("\n" if number else "") + "\n".join(_lines(letter)))


@deadletters.command()
def retry(
    context: typer.Context, ids: Ids = None, node: NodeName = None, cause: CauseText = None, since: Since = None,
    until: Until = None, state: State = None, all_: Every = False, json: AsJson = False,
) -> None:  # fmt: skip
    """Put letters into the flow again, at the node where they failed; they keep their id."""
    _tell([(AGAIN, _carry_out(Choice(context, node, cause, since, until, state, ids, all_), "retry"))], json)


@deadletters.command()
def drop(
    context: typer.Context, ids: Ids = None, node: NodeName = None, cause: CauseText = None, since: Since = None,
    until: Until = None, state: State = None, all_: Every = False, json: AsJson = False,
) -> None:  # fmt: skip
    """Mark letters as dropped: they stay to be seen until room is needed."""
    _tell([("dropped", _carry_out(Choice(context, node, cause, since, until, state, ids, all_), "drop"))], json)


@deadletters.command()
def fix(
    context: typer.Context, ids: Ids = None,
    data: Annotated[str | None, typer.Option(help="The whole new data as JSON, or @FILE.")] = None, set_: Sets = None,
    original: Annotated[bool, typer.Option("--original", help="Forget what was edited.")] = False,
    again: Annotated[bool, typer.Option("--retry", help="Put them into the flow again at once.")] = False,
    node: NodeName = None, cause: CauseText = None, since: Since = None, until: Until = None, state: State = None,
    all_: Every = False, json: AsJson = False,
) -> None:  # fmt: skip
    """Give letters other data for the next retry; the original stays beside it."""
    choice = Choice(context, node, cause, since, until, state, ids, all_)
    if (data is not None) + bool(set_) + original != 1:
        raise UsageFault("exactly one of --data, --set, --original")
    body = {"data": _json(data)} if data is not None else {"set": _fields(set_)} if set_ else {"original": True}
    done = [("edited", _carry_out(choice, "fix", **body))]
    if again:
        done.append((AGAIN, _carry_out(choice, "retry")))
    _tell(done, json)


def _carry_out(choice: Choice, what: str, **body: Any) -> dict[str, Any]:
    """Do it in portions, with a progress bar; return how many were changed, and how many passed over, by reason."""
    from rich.console import Console
    from rich.progress import Progress

    changed, skipped = 0, dict[str, int]()
    console = Console(stderr=True)
    total = choice.total() if console.is_terminal else None
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task(what, total=total)
        for found in choice.each(what, **body):
            changed += found["changed"]
            for reason, many in found["skipped"].items():
                skipped[reason] = skipped.get(reason, 0) + many
            progress.update(bar, completed=changed + sum(skipped.values()))
    return {"changed": changed, "skipped": skipped}


def _tell(outcomes: list[tuple[str, dict[str, Any]]], json: bool) -> None:
    if json:
        print_json([{"done": done, **found} for done, found in outcomes])
        return
    for done, found in outcomes:
        typer.echo(f"{found['changed']:,} {done}")
        for reason, many in found["skipped"].items():
            typer.echo(f"{many:,} passed over: {reason}")


def _time(option: str, text: str | None) -> str | None:
    """Return a time as the API takes it; `2h` is two hours ago."""
    from engine.event import moment

    return None if text is None else moment(moment_of(option, text)).isoformat()


def _json(text: str) -> Any:
    import msgspec

    try:
        return msgspec.json.decode(Path(text[1:]).read_bytes() if text.startswith("@") else text)
    except msgspec.DecodeError as fault:
        raise UsageFault(f"--data: JSON; {fault}") from None


def _fields(texts: list[str]) -> dict[str, Any]:
    import msgspec

    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise UsageFault(f"--set: FIELD=VALUE; got '{text}'")
        try:
            found[name] = msgspec.json.decode(value)
        except msgspec.DecodeError:
            found[name] = value
    return found


def _lines(letter: dict[str, Any]) -> Iterator[str]:
    import msgspec

    changed = f", {letter['changed_at']} by {letter['changed_by']}" if letter["changed_at"] else ""
    known = {
        "number": letter["number"], "id": letter["id"], "node": letter["node"], "reason": letter["reason"],
        "state": f"{letter['state']}{changed}", "attempt": letter["attempt"], "version": letter["version"],
        "arrived": letter["time"], "event time": letter["event_time"], "source": letter["source"],
        "topic": letter["topic"], "key": letter["key"],
    }  # fmt: skip
    yield from (f"{name:11} {value}" for name, value in known.items() if value not in ("", None))
    for name in ("meta", "values", "data", "fixed"):
        if letter[name]:
            yield f"{name:11} {msgspec.json.format(msgspec.json.encode(letter[name]), indent=0).decode()}"
    if letter["text"] is not None:
        yield f"{'no JSON':11} {letter['text']!r}"


def _table(*columns: str) -> Any:
    from rich.table import Table

    table = Table(*columns, box=None, padding=(0, 2, 0, 0))
    table.columns[0].justify = "right"
    return table


def _print(table: Any) -> None:
    from rich.console import Console

    if table.row_count:
        Console(soft_wrap=True).print(table, markup=False)
