"""What is asked of a deploy, and what became of it."""

import msgspec

from engine.deploy_plan import DeployPlan
from engine.deployment import Consent


class Outcome(msgspec.Struct):
    """What a deploy did: `deployed`, `restarted` or `unchanged`; the version's number, its plan, how long it took."""

    flow: str
    outcome: str
    number: int
    plan: DeployPlan
    seconds: float = 0.0


class Order(msgspec.Struct):
    """What is to be deployed, and what is agreed to; with `restart`, also a version that changes nothing."""

    text: str
    source: str = "flow.yaml"
    overrides: dict[str, str] = {}
    reset: list[str] = []
    destructive: bool = False
    restart: bool = False

    @property
    def consent(self) -> Consent:
        """Return what is agreed to."""
        return Consent(frozenset(self.reset), self.destructive)
