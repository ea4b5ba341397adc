"""The operations' API of deploys: plan, deploy, roll back, versions, status."""

from typing import Any

import msgspec
from starlette.exceptions import HTTPException

from engine.deployed import read_record
from engine.deployment import DeployRefused
from engine.errors import EnvironmentFault, MillstreamError
from engine.refusal import Refusal
from engine.versions import Version, Versions
from web.api import OPERATOR, Call, Endpoint
from web.deploy_order import Order, Outcome
from web.deployer import Deployer
from web.inside import Inside


class Back(msgspec.Struct):
    """What a rollback is to do: the version's number (0: the one before), and what is agreed to."""

    to: int = 0
    reset: list[str] = []
    destructive: bool = False


class VersionLine(msgspec.Struct):
    """A version without its text."""

    number: int
    digest: str
    author: str
    time: float
    outcome: str
    reason: str
    rolled_back_to: int
    source: str
    deployed: bool


def deploy_endpoints(deployer: Deployer, inside: Inside) -> list[Endpoint]:
    """Return the calls; a flow may carry Python, so what reads or runs one needs an administrator."""
    calls = DeployCalls(deployer, inside)
    return [
        Endpoint("GET", "/flows", "viewer", calls.status),
        Endpoint("POST", "/plan", "admin", calls.plan),
        Endpoint("POST", "/deploy", "admin", calls.deploy),
        Endpoint("POST", "/flows/{flow}/rollback", "admin", calls.rollback),
        Endpoint("POST", "/flows/{flow}/undeploy", "admin", calls.undeploy),
        Endpoint("GET", "/flows/{flow}/versions", "viewer", calls.versions),
        Endpoint("GET", "/flows/{flow}/versions/{number}", "admin", calls.version),
    ]


class DeployCalls:
    """Implements the calls."""

    def __init__(self, deployer: Deployer, inside: Inside) -> None:
        self._deployer, self._inside = deployer, inside

    async def status(self, call: Call) -> dict[str, Any]:
        """Return how every flow is and which version of it is deployed, and what the gateway takes."""
        found = {}
        for name, state in self._inside.flows().items():
            record = read_record(self._inside.settings, name)
            version = {"version": record.number, "digest": record.version} if record else {}
            found[name] = msgspec.to_builtins(state) | version
        return {"flows": found, "gateway": self._inside.gateway()}

    async def plan(self, call: Call) -> Any:
        """Return what a deploy would do."""
        return await self._deployer.plan(await call.body(Order))

    async def deploy(self, call: Call) -> Outcome:
        """Deploy a version."""
        order = await call.body(Order)
        return await _told(self._deployer.deploy(order, _author(call)))

    async def rollback(self, call: Call) -> Outcome:
        """Go back to a version."""
        back, name = await call.body(Back), self._known(call)
        order = Order("", reset=back.reset, destructive=back.destructive)
        return await _told(self._deployer.rollback(name, back.to, order, _author(call)))

    async def undeploy(self, call: Call) -> dict[str, str]:
        """Stop a flow for good."""
        name = self._known(call)
        await self._deployer.undeploy(name)
        return {"flow": name, "outcome": "undeployed"}

    async def versions(self, call: Call) -> dict[str, Any]:
        """Return every version of a flow, oldest first."""
        name = self._known(call)
        record = read_record(self._inside.settings, name)
        current = record.number if record else 0
        return {"versions": [_line(version, current) for version in self._store(name).all()]}

    async def version(self, call: Call) -> Version:
        """Return one version with its text, diff and plan."""
        number = call.path["number"]
        if not number.isascii() or not number.isdigit():
            raise HTTPException(404)
        return self._store(self._known(call)).get(int(number))

    def _store(self, name: str) -> Versions:
        return Versions(self._inside.settings.flow_folder(name))

    def _known(self, call: Call) -> str:
        name = call.path["flow"]
        if name not in self._inside.definitions:
            known = ", ".join(self._inside.definitions)
            raise Refusal(404, "not_found", f"a flow that is deployed ({known}); got '{name}'")
        return name


def _author(call: Call) -> str:
    """Return who deploys: the account, or on the control socket whom the command names."""
    return call.query.get("author", "") or call.author if call.author == OPERATOR else call.author


def _line(version: Version, current: int) -> VersionLine:
    return VersionLine(
        version.number, version.digest, version.author, version.time, version.outcome, version.reason,
        version.rolled_back_to, version.source, version.number == current,
    )  # fmt: skip


async def _told(doing: Any) -> Outcome:
    """Await a deploy; what stops it becomes an answer with the plan or the reason."""
    try:
        found: Outcome = await doing
    except DeployRefused as fault:
        plan = msgspec.to_builtins(fault.plan)
        more = {"plan": plan, "reasons": fault.reasons}
        raise Refusal(409, "deploy_refused", str(fault), more=more) from None
    except MillstreamError as fault:
        if isinstance(fault, EnvironmentFault) or type(fault).__name__ == "DeployFailed":
            message = f"{fault}; the version before runs on"
            raise Refusal(409, "deploy_failed", message) from None
        raise
    return found
