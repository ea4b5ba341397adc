"""Every code that a finding may have: what it means, why it matters, how to mend it; the texts are in engine/codes."""

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import msgspec
import yaml

TIERS = {
    "syntax": "what can be read: YAML, sections, included files",
    "wiring": "what fits together: names, options, wires, types",
    "environment": "what is there: brokers, databases, servers, files, settings (most of it with `--connect` only)",
}
PAGE = "docs/components/lint.md"


class FindingCode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is said of one code; `wrong` is a flow that has the finding in the environment, `right` the same, mended.

    `connects`: it is found with `--connect` only.
    """

    title: str
    means: str
    matters: str
    fix: str
    code: str = ""
    tier: str = ""
    wrong: str = ""
    right: str = ""
    environment: dict[str, str] = {}
    connects: bool = True

    @property
    def link(self) -> str:
        """Return where its page is."""
        return f"{PAGE}#{self.code}"


@cache
def finding_codes() -> Mapping[str, FindingCode]:
    """Return every code with what is said of it, by tier."""
    found = {}
    for tier in TIERS:
        text = Path(__file__).with_name("codes").joinpath(f"{tier}.yaml").read_text()
        entries = msgspec.convert(yaml.safe_load(text), dict[str, FindingCode])
        for code, entry in entries.items():
            connects = tier == "environment" and entry.connects
            found[code] = msgspec.structs.replace(entry, code=code, tier=tier, connects=connects)
    return found


def code_text(entry: FindingCode) -> str:
    """Return the section of a code as Markdown."""
    return "\n".join(_lines(entry))


def _lines(entry: FindingCode) -> Iterator[str]:
    yield from (f"### {entry.code}", "", f"**{entry.title}.** {entry.means}", "")
    yield from (f"*Why it matters.* {entry.matters}", "", f"*How to mend it.* {entry.fix}", "")
    given = ", ".join(f"`{name}={value}`" for name, value in entry.environment.items())
    if entry.wrong:
        yield from (f"Wrong{f', with {given}' if given else ''}:", "", "```yaml wrong", entry.wrong.rstrip(), "```", "")
        yield from ("Right:", "", f"```yaml right{' elsewhere' * bool(given)}", entry.right.rstrip(), "```", "")


def codes_page() -> str:
    """Return the page of all codes as Markdown."""
    lines = ["# Findings of lint", "", *_HEAD]
    for tier, about in TIERS.items():
        entries = [entry for entry in finding_codes().values() if entry.tier == tier]
        lines += [f"## {tier.capitalize()}", "", f"{about[0].upper()}{about[1:]}.", "", "| code | what it says |"]
        lines += ["| --- | --- |", *(f"| [{entry.code}](#{entry.code}) | {entry.title} |" for entry in entries), ""]
        lines += [code_text(entry) for entry in entries]
    return "\n".join(lines).rstrip() + "\n"


_HEAD = (
    "`millstream lint PATH…` finds every problem in flows, in three tiers, each with its line, what is expected and",
    "what is there. The code in brackets at the end of a finding leads to a section here; `millstream explain CODE`",
    "prints it. The third tier looks at the place where the flow would run: `millstream lint --connect PATH…` tries",
    "what each source, sink, table and query would reach, all at once and each for `--patience` seconds, and changes",
    "nothing there. Markdown may be among the paths: each block of YAML in it that has a line `flow:` is linted, with",
    "the line numbers of its page; ```` ```yaml wrong ```` marks one that shows a mistake, and is left alone. `--json`",
    "prints tier, code, severity, message, path, line, column, node, option, hint and docs. Exit codes: 0 where",
    "nothing is wrong (there may be warnings), 1 where something is.",
    "",
)
