"""`notify`: messages to people."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import structlog
from pydantic import BaseModel, Field, PrivateAttr, SecretStr, ValidationInfo, model_validator

from engine.api import (
    Component,
    Duration,
    Event,
    EventFault,
    Example,
    Expression,
    Flow,
    MediaStore,
    Node,
    Outside,
    Place,
    Problem,
    Rate,
    Reach,
    Retry,
    Sink,
    Spill,
    Type,
    Unavailable,
    Writer,
    component,
    notices,
    outgoing,
    unknown_fields,
)

log = structlog.get_logger()


class WebPush(BaseModel):
    """To whose browsers notices go."""

    model_config = Component.model_config

    to: Expression
    """The push subscription of a browser, a list of them, or none: objects with `endpoint` and `keys`, or their JSON,
    as a page's `PushManager` gives them; `lookup` brings them from a table."""
    key: SecretStr
    """The private VAPID key (base64, as `vapid --gen` makes it): a secret setting."""
    contact: str = Field(pattern="^(mailto:|https://).+")
    """Who is told of problems: `mailto:…` or `https://…`."""
    ttl: Duration = 86_400_000_000
    """How long the push service keeps it for a browser that is not there."""


@component("notify")
class Notify(Sink):
    """Tell people: by e-mail, web push, and the hundred services that apprise reaches (Slack, Teams, Telegram, SMS, …).

    Notices wait in a queue of their own on the disk, so a flow never waits for them. What exceeds `at_most` goes out
    together as one notice that says how many events it stands for. One that is not taken is tried again by `retry`;
    then it is a dead letter, and the sink is shown as away until another one is taken. Delivery: at least once up to
    that; a restart may repeat the last one. Beyond `most` that wait, events are dropped, counted, and told of in the
    next notice.
    """

    urls: list[str | SecretStr] = []
    """Where to: addresses as apprise has them, such as `mailtos://user:password@host?to=…`; a secret setting each, but
    for those that hold neither password nor token."""
    push: WebPush | None = None
    """To browsers: `{to: …, key: …, contact: mailto:…}`."""
    title: str = ""
    """The title: a Jinja template over the fields, `meta` and `settings`."""
    text: str
    """The text: a Jinja template."""
    format: Literal["text", "markdown", "html"] = "text"
    """What the text is; in HTML, values are escaped."""
    level: Literal["info", "success", "warning", "failure"] = "info"
    """What it is about: some services show it by an icon or a colour."""
    files: Expression | None = None
    """Pictures to be sent with it: an address as `image` gives it (`/media/…`), or a list."""
    at_most: Rate = 10 / 60
    """How many notices go out; the first one does so at once."""
    most: int = Field(default=1_000, ge=1, le=100_000)
    """The most events that wait; what comes beyond is dropped and counted."""
    retry: Retry = Retry.model_validate({"times": 3, "wait": "5s"})
    """How often one that is not taken is tried again, after which wait (doubled each time); `causes` do not matter."""
    timeout: Duration = Field(20_000_000, gt=0)
    """How long a service may take, each time."""

    _around: outgoing.Surroundings = PrivateAttr(default_factory=outgoing.Surroundings)
    _data: Path = PrivateAttr(default=Path())
    guarantee = "at least once until it is given up: then a dead letter; the flow never waits"
    spills = False
    examples = (
        Example(
            about="A mail when a press is too hot; of many within a minute there is one that sums them up.",
            config="notify: {urls: ['mailto://mail.example?from=line@plant.example&to=shift@plant.example'], "
            "title: 'Press {{ press }} is too hot', text: '{{ t }} °C at {{ meta.time }}', level: warning, "
            "at_most: 1/m}",
            given=[{"press": 3, "t": 93}],
            expect=[{"press": 3, "t": 93}],
        ),
        Example(
            about="A notice as JSON for a server of one's own.",
            config="notify: {urls: ['json://127.0.0.1:9000/notices'], text: 'Line {{ line }} stands.', level: failure}",
            given=[{"line": 3}],
            expect=[{"line": 3}],
        ),
    )

    @model_validator(mode="after")
    def _placed(self, info: ValidationInfo) -> "Notify":
        object.__setattr__(self, "_around", outgoing.Surroundings(info))
        return self

    def check(self, flow: Flow, node: Node) -> Iterable[Problem]:
        """Find templates that cannot be read, tokens that stand in the flow, and that nobody is told."""
        for option in ("title", "text"):
            yield from outgoing.check_template(option, getattr(self, option), self._around)
        if not self.urls and self.push is None:
            yield Problem("option-value", "urls", "somebody to tell, in urls or push; got neither")
        for at, url in enumerate(self.urls):
            if isinstance(url, str) and (urlsplit(url).scheme not in notices.OPEN or urlsplit(url).password):
                message = f"a secret setting, as the address of {urlsplit(url).scheme or 'a service'} holds its token"
                yield Problem("secret", f"urls.{at}", message, "settings: {address: {env: ADDRESS, secret: true}}")

    async def probe(self, node: Node, reach: Reach) -> Iterable[Problem]:
        """Try to connect to the servers of mail and of addresses with a host; nothing is sent."""
        found: list[Problem] = []
        for at, url in enumerate(self.urls):
            address, option = outgoing.opened(url), f"urls.{at}"
            if urlsplit(address).scheme in notices.OPEN:
                server = notices.server_of(address)
                unknown = [Problem("address", option, "an address that apprise knows; got one that it does not")]
                found += await reach.server(server[0], server[1], option, tls=server[2]) if server else unknown
        return found

    def check_fields(self, flow: Flow, node: Node, given: Mapping[str, Type]) -> Iterable[Problem]:
        """Find names in the templates that are no fields."""
        for option in ("title", "text"):
            named = outgoing.template_fields(option, getattr(self, option), self._around)
            yield from unknown_fields(flow, named, given)

    def deployed(self, place: Place) -> "Notify":
        """Return the sink with its place."""
        placed = self.model_copy()
        object.__setattr__(placed, "_data", place.data)
        return placed

    async def open(self, node: Node, outside: Outside) -> Writer:
        """Return the writer, which has a queue and sends by itself."""
        queue = Spill(self._data / "flows" / outside.flow / "notices" / f"{node.name}.db")
        return Notifier(self, node.name, outside, queue)

    def maker(self) -> Callable[[Event], notices.Notice]:
        """Return what makes a notice of an event; raises EventFault."""
        html = self.format == "html"
        title = outgoing.Text("title", self.title, self._around)
        text = outgoing.Text("text", self.text, self._around, html=html)
        files = outgoing.evaluated("files", self.files) if self.files is not None else lambda _: None
        return lambda event: notices.Notice(title(event).strip(), text(event), self._paths(files(event)))

    def _paths(self, value: Any) -> tuple[str, ...]:
        """Return where pictures lie, from their addresses."""
        store = MediaStore(self._data / "media")
        names = value if isinstance(value, list) else [] if value is None else [value]
        found = [store.path(str(name).removeprefix("/media/")) for name in names]
        if None in found:
            raise EventFault(f"files: an address like /media/…; got {value}"[:200])
        return tuple(str(path) for path in found)

    def services(self) -> list[notices.Receiver]:
        """Return who gets every notice."""
        form, seconds = self.format, self.timeout / 1e6
        return [notices.Service(outgoing.opened(url), self.level, form, seconds) for url in self.urls]


Addressed = tuple[notices.Receiver, list[Event]]


class Notifier:
    """Takes events at once, and tells people in its own time."""

    def __init__(self, options: Notify, node: str, outside: Outside, queue: Spill) -> None:
        self._options, self._node, self._outside, self._queue = options, node, outside, queue
        self._make, self._services = options.maker(), options.services()
        self._to = outgoing.evaluated("push.to", options.push.to) if options.push else None
        self._ready = asyncio.Event()
        if queue.events:
            self._ready.set()
        self._dropped = 0
        self._next = 0.0
        self._sending = asyncio.create_task(self._run())

    async def write(self, events: list[Event]) -> None:
        """Return when they wait on the disk; those for which there is no room are dropped."""
        taken = events[: max(0, self._options.most - self._queue.events)]
        try:
            if taken:
                await asyncio.to_thread(self._queue.append, [taken])
        except Unavailable as fault:
            self._outside.show(self._node, str(fault))
            taken = []
        if left := len(events) - len(taken):
            if not self._dropped:
                log.warning("notices are dropped", node=self._node, number=left)
            self._dropped += left
            self._outside.dropped(self._node, left)
        self._ready.set()

    async def _run(self) -> None:
        """Send what waits, as often as `at_most` allows."""
        while True:
            await self._ready.wait()
            self._ready.clear()
            while self._queue.events:
                await asyncio.sleep(self._next - time.monotonic())
                self._next = time.monotonic() + 1 / self._options.at_most
                try:
                    await self._send(*await asyncio.to_thread(self._queue.read))
                except Unavailable as fault:
                    self._outside.show(self._node, str(fault))

    async def _send(self, events: list[Event], last: int) -> None:
        """Send one notice for these events to everybody, then forget them."""
        dropped, self._dropped = self._dropped, 0
        made = {id(event): notice for event, notice in outgoing.sound(events, self._make, self._refuse)}
        told = [event for event in events if id(event) in made]
        if told:
            addressed = self._addressed(told)
            sent = [notices.digest([made[id(event)] for event in its], dropped) for _, its in addressed]
            reasons = await asyncio.gather(*map(self._tell, (receiver for receiver, _ in addressed), sent))
            for (receiver, its), reason in zip(addressed, reasons, strict=True):
                for event in its if reason else ():
                    self._refuse(event, EventFault(f"notice to {reason}", {"to": receiver.name}))
            self._outside.show(self._node, next(filter(None, reasons), ""))
        await self._outside.letters_stored()
        await asyncio.to_thread(self._queue.delete, last)

    def _addressed(self, events: list[Event]) -> list[Addressed]:
        """Return who is told of which events."""
        found: list[Addressed] = [(service, events) for service in self._services]
        push, to = self._options.push, self._to
        if push is None or to is None:
            return found
        browsers: dict[str, Addressed] = {}
        for event in events:
            try:
                for one in notices.subscriptions(to(event)):
                    key, seconds = push.key.get_secret_value(), self._options.timeout / 1e6
                    browser = notices.Browser(one, key, push.contact, push.ttl // 1_000_000, seconds)
                    browsers.setdefault(str(one["endpoint"]), (browser, []))[1].append(event)
            except EventFault as fault:
                self._refuse(event, fault)
            except ValueError as fault:
                self._refuse(event, EventFault(f"push.to: {fault}"))
        return found + list(browsers.values())

    async def _tell(self, receiver: notices.Receiver, notice: notices.Notice) -> str:
        """Return an empty text when it was taken, else why not."""
        retry = self._options.retry
        for attempt in range(retry.times + 1):
            if not (fault := await notices.told(receiver, notice)):
                return ""
            reason = f"{receiver.name}: {fault}"
            self._outside.show(self._node, reason)
            if attempt < retry.times:
                await asyncio.sleep(retry.pause(attempt))
        return reason

    def _refuse(self, event: Event, fault: EventFault) -> None:
        self._outside.dead(self._node, event, fault.reason, fault.values)

    async def close(self) -> None:
        """Stop sending; what waits is sent after the next start."""
        self._sending.cancel()
        with suppress(asyncio.CancelledError):
            await self._sending
        self._queue.close()
