"""What a component says of itself in a flow: what is wrong, and what is slow."""

import msgspec


class Problem(msgspec.Struct, frozen=True):
    """What a component finds wrong with its own wiring; `option` is a path like `table` or `fields.device.max`.

    What has the severity `warning` does not keep the flow from running.
    """

    code: str
    option: str
    message: str
    hint: str = ""
    severity: str = "error"


class Slow(msgspec.Struct, frozen=True):
    """What a component knows to be slow about itself: the option, what it costs (measured), and what to do instead."""

    option: str
    costs: str
    instead: str
