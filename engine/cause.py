"""The cause of a dead letter: its reason without the values, so that letters with the same trouble group."""

import re

LONGEST, LOOKED_AT = 300, 2_000
_QUOTED = re.compile(r"""(?<!\w)(?:'[^']*(?:'|$)|"[^"]*(?:"|$))""")
_GOT = re.compile(r"\bgot (?!(?:a list|a dict|text|none|null|nothing|true or false)\b)[^;]*")
_IS = re.compile(r" = [^;]*?(?=, [\w.]+ = |;|$)")
_NUMBER = re.compile(r"(?<![\w.])[-+]?(?:0x[0-9a-fA-F]+|\d[\d.,:_]*(?:[eE][-+]?\d+)?)(?!\w)")


def cause_of(reason: str) -> str:
    """Return a reason with `…` for what differs from event to event: quoted text, numbers, and what was got."""
    text = _QUOTED.sub("'…'", " ".join(reason[:LOOKED_AT].split()))
    text = _IS.sub(" = …", _GOT.sub("got …", text))
    text = _NUMBER.sub("…", text)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
