"""The notify sink at a real SMTP server, a real HTTP server, and a browser's end of web push."""

import asyncio
import base64
import json
import os
import threading
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import http_ece
import jwt
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from engine.component import Place
from engine.load import load_text
from engine.media import MediaStore
from engine.notices import Notice, digest, scrubbed
from sinks.notify import Notify
from tests.process import LOCALHOST, free_port, wait_until
from tests.sinks.http_target import HttpTarget, Said
from tests.sinks.sink_case import Surroundings, event, readings

QUICK = {"at_most": "1000/s", "retry": {"times": 1, "wait": "1ms"}}
PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mP4z8AAAAMBAQD3A0FDAAAAAElFTkSuQmCC")


class Mailbox:
    """An SMTP server that keeps what it takes; `refuses` makes it refuse."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.refuses = False
        self.port = free_port()
        self._controller = Controller(self, hostname=LOCALHOST, port=self.port)
        self.url = f"mailto://{LOCALHOST}:{self.port}?from=line@plant.example&to=shift@plant.example"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.refuses:
            return "554 no"
        assert isinstance(envelope.content, bytes)
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        return "250 OK"

    def text(self, at: int) -> str:
        body = self.mails[at].get_body(("plain", "html"))
        assert body is not None
        return str(body.get_content()).strip()


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    box = Mailbox()
    box._controller.start()
    yield box
    box._controller.stop()


@pytest.fixture
def outside() -> Surroundings:
    return Surroundings()


def sink(data: Path, **options: Any) -> Notify:
    return Notify.model_validate({**QUICK, "text": "{{ n }}", **options}).deployed(Place(data))


async def until(condition: Any, what: str = "it is told") -> None:
    await asyncio.to_thread(wait_until, condition, what, 20)


async def test_a_mail_has_title_and_text(mailbox: Mailbox, tmp_path: Path, outside: Surroundings) -> None:
    options = {"title": "Press {{ n }} ü", "text": "{{ t }} °C at {{ meta.time }}"}
    async with outside.opened(sink(tmp_path, urls=[mailbox.url], **options)) as writer:
        await writer.write([event(0, {"n": 3, "t": 93})])
        await until(lambda: mailbox.mails)
    assert mailbox.mails[0]["subject"] == "Press 3 ü"
    assert mailbox.mails[0]["to"] == "shift@plant.example"
    assert mailbox.text(0) == "93 °C at 2026-01-31T12:00:00.123456Z"
    assert outside.letters == []


async def test_a_picture_goes_with_it(mailbox: Mailbox, tmp_path: Path, outside: Surroundings) -> None:
    name = MediaStore(tmp_path / "media").put(PIXEL, "png")
    async with outside.opened(sink(tmp_path, urls=[mailbox.url], files="pictures")) as writer:
        await writer.write(
            [event(0, {"n": 1, "pictures": [f"/media/{name}"]}), event(1, {"n": 2, "pictures": "/etc/x"})]
        )
        await until(lambda: mailbox.mails)
        await until(lambda: outside.letters)
    [attached] = mailbox.mails[0].iter_attachments()
    assert (attached.get_content(), attached.get_content_type()) == (PIXEL, "image/png")
    assert outside.reasons == ["files: an address like /media/…; got /etc/x"]


async def test_what_exceeds_the_rate_goes_out_together(tmp_path: Path, outside: Surroundings) -> None:
    with HttpTarget(lambda _: Said(200)) as target:
        url = target.url.replace("http://", "json://")
        async with outside.opened(sink(tmp_path, urls=[url], title="No {{ n }}", at_most="5/s")) as writer:
            await writer.write(readings(1))
            await until(lambda: len(target.asked) == 1)
            for n in range(1, 16):
                await writer.write(readings(1, n))
            await until(lambda: len(target.asked) == 2)
            await writer.write(readings(1, 16))
            await until(lambda: len(target.asked) == 3)
    sent = [(asked.json["title"], asked.json["message"]) for asked in target.asked]
    assert sent[0] == ("No 0", "0")
    assert sent[1][0] == "15 notices: No 1"
    assert sent[1][1].splitlines() == [*(f"No {n}" for n in range(1, 11)), "and 5 more"]
    assert sent[2] == ("No 16", "16")


async def test_a_service_that_hangs_holds_up_nobody(tmp_path: Path, outside: Surroundings) -> None:
    with HttpTarget(lambda _: Said(200)) as target:
        target.held.clear()
        url = target.url.replace("http://", "json://")
        async with outside.opened(sink(tmp_path, urls=[url], most=50)) as writer:
            async with asyncio.timeout(5):
                for n in range(100):
                    await writer.write(readings(1, n))
            assert outside.lost == 50
            target.held.set()
            await until(lambda: len(target.asked) == 2)
    assert target.asked[1].json["title"] == "99 notices: 1" or target.asked[1].json["title"].startswith("9")
    assert outside.letters == []


async def test_what_is_not_taken_is_shown_and_a_dead_letter(
    mailbox: Mailbox, tmp_path: Path, outside: Surroundings
) -> None:
    mailbox.refuses = True
    async with outside.opened(sink(tmp_path, urls=[mailbox.url])) as writer:
        await writer.write(readings(1))
        await until(lambda: outside.letters)
        assert outside.shown[-1].startswith(f"mailto://{LOCALHOST}: ")
        mailbox.refuses = False
        await writer.write(readings(1, 1))
        await until(lambda: mailbox.mails)
        await until(lambda: outside.shown[-1] == "")
    [(node, bad, reason, values)] = outside.letters
    assert (node, bad.data["n"], values) == ("out", 0, {"to": f"mailto://{LOCALHOST}"})
    assert reason.startswith(f"notice to mailto://{LOCALHOST}: ")
    assert "shift@plant.example" in reason


async def test_nobody_there_costs_the_notice_and_not_the_other_receiver(tmp_path: Path, outside: Surroundings) -> None:
    with HttpTarget(lambda _: Said(200)) as target:
        urls = [
            f"json://user:s3cr3tword@{LOCALHOST}:{free_port()}/t0kent0ken",
            target.url.replace("http://", "json://"),
        ]
        async with outside.opened(sink(tmp_path, urls=urls)) as writer:
            await writer.write(readings(1))
            await until(lambda: target.asked)
            await until(lambda: outside.letters)
    assert len(target.asked) == 1
    assert "refused" in outside.reasons[0]
    assert "s3cr3tword" not in str(outside.letters) + str(outside.shown)
    assert "t0kent0ken" not in str(outside.letters) + str(outside.shown)


async def test_what_waits_is_told_after_a_restart(tmp_path: Path, outside: Surroundings) -> None:
    with HttpTarget(lambda _: Said(200)) as target:
        target.held.clear()
        options = {"urls": [target.url.replace("http://", "json://")], "at_most": "1/h"}
        async with outside.opened(sink(tmp_path, **options)) as writer:
            await writer.write(readings(3))
        async with outside.opened(sink(tmp_path, **options)):
            target.held.set()
            await until(lambda: target.asked[-1:] and target.asked[-1].json["title"] == "3 notices: 0")
            folder = tmp_path / "flows" / "line" / "notices"
            await until(lambda: not os.listdir(folder), "nothing waits")
    assert outside.letters == []


class Page:
    """A browser's end of web push: the subscription that its page sends, and what its service worker reads."""

    def __init__(self, endpoint: str) -> None:
        self._key, self._auth = ec.generate_private_key(ec.SECP256R1()), os.urandom(16)
        point = self._key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        self.subscription = {
            "endpoint": endpoint,
            "keys": {"p256dh": _base64(point), "auth": _base64(self._auth)},
        }  # fmt: skip

    def read(self, body: bytes) -> Any:
        return json.loads(http_ece.decrypt(body, private_key=self._key, auth_secret=self._auth, version="aes128gcm"))


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


async def test_a_browser_gets_what_only_it_can_read(tmp_path: Path, outside: Surroundings) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    push = {
        "to": "who", "key": _base64(key.private_numbers().private_value.to_bytes(32, "big")),
        "contact": "mailto:ops@plant.example",
    }  # fmt: skip
    with HttpTarget(lambda asked: Said(410 if asked.path == "/gone" else 201)) as target:
        page, gone = Page(f"{target.url}/here"), Page(f"{target.url}/gone")
        who = [[page.subscription, gone.subscription], json.dumps(page.subscription), None, {"endpoint": "ftp://x"}]
        async with outside.opened(sink(tmp_path, push=push, title="T{{ n }}")) as writer:
            await writer.write([event(n, {"n": n, "who": one}) for n, one in enumerate(who)])
            await until(lambda: len(outside.letters) == 2)
            await until(lambda: len(target.asked) >= 2)
    here = [asked for asked in target.asked if asked.path == "/here"]
    assert [page.read(asked.body) for asked in here] == [{"title": "2 notices: T0", "body": "T0\nT1", "events": 2}]
    headers = {name.lower(): value for name, value in here[0].headers.items()}
    token = headers["authorization"].removeprefix("vapid t=").partition(",")[0]
    claims = jwt.decode(token, key.public_key(), algorithms=["ES256"], audience=target.url)
    assert claims["sub"] == "mailto:ops@plant.example"
    assert sorted((letter[1].data["n"], letter[2]) for letter in outside.letters) == [
        (0, f"notice to web push at {LOCALHOST}: a subscription that is there; it has ended"),
        (3, "push.to: an object with endpoint (https://…) and keys, or a list of them"),
    ]


async def test_sending_runs_beside_the_loop(mailbox: Mailbox, tmp_path: Path, outside: Surroundings) -> None:
    threads: set[str] = set()
    options = sink(tmp_path, urls=[mailbox.url])
    async with outside.opened(options) as writer:
        service = writer._services[0]  # type: ignore[attr-defined]
        send = service.send

        def noted(notice: Notice) -> str:
            threads.add(threading.current_thread().name)
            return str(send(notice))

        service.send = noted
        await writer.write(readings(1))
        await until(lambda: mailbox.mails)
    assert threads == {"notice"}


def findings(**options: Any) -> str:
    spec = {
        "flow": "f", "settings": {"address": {"env": "NOBODY", "default": None, "secret": True}},
        "sources": {"s": {"mqtt": {"topics": ["t"]}}},
        "sinks": {"out": {"from": "s", "notify": {"text": "x", **options}}},
    }  # fmt: skip
    return "\n".join(map(str, load_text(json.dumps(spec)).document.findings))


def test_tokens_do_not_stand_in_a_flow() -> None:
    assert "urls.0: a secret setting, as the address of slack holds its token" in findings(urls=["slack://a/b/c"])
    assert "urls.0: a secret setting" in findings(urls=["mailto://user:word@mail.example"])
    assert findings(urls=["mailto://mail.example?to=a@b.example"]) == ""
    assert "somebody to tell, in urls or push; got neither" in findings()
    assert "a Jinja template" in findings(urls=["json://h"], text="{{ x")


def test_what_an_address_holds_is_not_said() -> None:
    said = "Failed to reach host.example/bot99887766:AAbb at /p%40ss, p@ss1 for user"
    assert scrubbed(said, "tgram://user:p%40ss1@host.example/bot99887766:AAbb") == (
        "Failed to reach host.example/…:… at /p%40ss, … for …"
    )


def test_a_digest_says_how_many() -> None:
    same = [Notice("Too hot", str(n)) for n in range(3)]
    assert digest(same[:1], 0) == same[0]
    assert digest(same, 0) == Notice("Too hot (3 times)", "Too hot\nToo hot\nToo hot", (), 3)
    assert digest(same[:1], 4).text == "Too hot\nand 4 more"
