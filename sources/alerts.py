"""`alerts`: what people do about alerts."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engine.api import (
    Arrival,
    Duration,
    EventFault,
    Example,
    Flow,
    Intake,
    Node,
    Problem,
    Refusal,
    RoutedSource,
    Type,
    Unavailable,
    alert_desk,
    busy,
    check_path,
    component,
    duration_text,
    read_body,
    read_object,
)

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

MOST_BODY = 64 << 10


class Act(BaseModel):
    """What is said in a request."""

    model_config = ConfigDict(extra="forbid")

    alert: str | None = Field(None, max_length=700)
    alerts: list[str] = Field([], max_length=1000)
    key: str | None = Field(None, max_length=500)
    name: str | None = Field(None, max_length=63)
    for_: Duration | None = Field(None, alias="for")

    def acts(self, do: str) -> list[dict[str, Any]]:
        """Return what is to be done, one a key; raises Refusal."""
        ids = [*self.alerts, *([self.alert] if self.alert is not None else [])]
        length = self._length(do)
        if ids:
            if self.key is not None or self.name is not None:
                raise _refused("key", "either alerts by id, or a key and a name")
            return [{"do": do, "alert": one, "key": _key(one)} | length for one in ids]
        if do != "mute" and self.key is None:
            raise _refused("alert", "the alert's id, or a key")
        name = {"name": self.name} if self.name is not None else {}
        keys = alert_desk.EVERY_KEY if self.key is None else [self.key]
        return [{"do": do, "key": key} | name | length for key in keys]

    def _length(self, do: str) -> dict[str, str]:
        if (do == "mute") != (self.for_ is not None):
            raise _refused("for", "how long, such as 1h; 0s ends it" if do == "mute" else f"nothing, to {do}")
        return {} if self.for_ is None else {"for": duration_text(self.for_)}


@component("alerts")
class Alerts(RoutedSource):
    """Take what people do about the alerts of a flow: acknowledge, clear, mute. It comes with the first `alert`.

    `POST /flows/NAME/alerts/acknowledge` and `/clear` with `{"alert": id}`, `{"alerts": [ids]}` or `{"key": key}`;
    `/mute` with `for` (`1h`; `0s` ends it) and one of these, or neither for every key, those that come later too. A
    `name` beside a key is that of the node; without it all alert nodes are meant. The answer is 202 when it is stored;
    the table shows the outcome. Who did it is `meta.account`.
    Delivery: in the durable inbox before the answer; to do the same again changes nothing.
    """

    post: str
    """The path; its parameter `{do}` is acknowledge, clear or mute."""
    allow: Literal["anyone", "viewer", "employee", "manager", "admin"] = "employee"
    """The least role that may do so; or anyone."""

    guarantee = "at least once into the inbox"
    examples = (
        Example(
            about="Somebody sees to an alert, and mutes a cradle for an hour.",
            config='alerts: {post: "/flows/nursery/alerts/{do}"}',
            given=[
                {"do": "acknowledge", "alert": "9f86d081884c7d65-7", "key": "7"},
                {"do": "mute", "key": "7", "for": "1h"},
            ],
            expect=[
                {"do": "acknowledge", "alert": "9f86d081884c7d65-7", "key": "7"},
                {"do": "mute", "key": "7", "for": "1h"},
            ],
        ),
    )

    def gives(self) -> dict[str, Type]:
        """Return what is done, about what."""
        maybe = Type("text", null=True)
        return {"do": Type("text"), "key": Type("text"), "alert": maybe, "name": maybe, "for": maybe}

    def check(self, flow: Flow, node: Node) -> Iterable[Problem]:
        """Find a path that cannot be served."""
        for message in check_path(self.post):
            yield Problem("path", "post", message)
        if "{do}" not in self.post:
            yield Problem("path", "post", f"a path with the parameter {{do}}; got {self.post}")

    def route(self) -> tuple[str, str, str | None]:
        """Return method, path and role."""
        return "POST", self.post, None if self.allow == "anyone" else self.allow

    async def answer(self, request: "Request", intake: Intake) -> "Response":
        """Check the request, commit it, and answer."""
        do = request.path_params["do"]
        if do not in alert_desk.DOES:
            raise Refusal(404, "not_found", f"expected one of {', '.join(alert_desk.DOES)}; got '{do}'"[:200])
        acts = _act(read_object(await read_body(request, MOST_BODY))).acts(do)
        meta = {"account": getattr(request.scope.get("account"), "name", None)}
        path = request.scope["path"]
        try:
            await intake.append([Arrival(msgspec.json.encode(act), path, meta) for act in acts])
        except Unavailable as fault:
            raise busy(f"the inbox cannot take it now: {fault}") from None
        except EventFault as fault:
            raise Refusal(422, "not_storable", fault.reason) from None
        from starlette.responses import Response  # only the gateway has it loaded; workers import this module too

        return Response(b'{"accepted":true}', 202, media_type="application/json")

    def openapi(self) -> dict[str, Any]:
        """Return what OpenAPI says of it: parameters, body, answers."""
        text = {"type": "string"}
        names = {"alert": text, "alerts": {"type": "array", "items": text}, "key": text, "name": text, "for": text}
        body = {"type": "object", "properties": names, "additionalProperties": False}
        return {
            "parameters": [{"name": "do", "in": "path", "required": True, "schema": {"enum": list(alert_desk.DOES)}}],
            "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
            "responses": {"202": {"description": "It is stored durably, and will be done"}},
            "codes": [400, 404, 413, 415, 422],
        }


def _act(body: bytes) -> Act:
    try:
        return Act.model_validate(msgspec.json.decode(body))
    except ValidationError as fault:
        error = fault.errors()[0]
        raise _refused(".".join(map(str, error["loc"])), error["msg"]) from None


def _key(alert: str) -> str:
    key = alert_desk.alert_key(alert)
    if key is None:
        raise _refused("alert", f"the id of an alert; got '{alert[:80]}'")
    return key


def _refused(field: str, expected: str) -> Refusal:
    return Refusal(422, "invalid", f"expected {field}: {expected}")
