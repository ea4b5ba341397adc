"""The link: what is pushed arrives at least once and in order, whoever is restarted; wake-ups and marks pass."""

import asyncio
import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import uvloop
from websockets.asyncio.client import unix_connect
from websockets.asyncio.server import ServerConnection, unix_serve
from websockets.exceptions import ConnectionClosed

from engine.errors import EnvironmentFault, EventFault
from engine.frames import (
    URI,
    Ack,
    Answer,
    AskMark,
    Batch,
    Hello,
    Report,
    Upward,
    Wake,
    decode_downward,
    decode_upward,
    encode,
)
from engine.link import LinkClient
from tests.engine.link_case import TOKEN, Gateway, linked, push, serving, until
from tests.process import ROOT

PUSH_FOR_EVER = """
import asyncio, sys
from pathlib import Path
from engine.frames import Push
from engine.link import LinkClient
async def main():
    client = LinkClient(Path(sys.argv[1]), "flow", "token of the tests")
    running = asyncio.create_task(client.run())
    for number in range(1_000_000):
        await client.push([Push("c", "e", b"%d" % number, b"{}")])
        print(number, flush=True)
asyncio.run(main())
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "link.sock"


async def test_pushes_and_answers_arrive_in_order_and_are_acknowledged(path: Path) -> None:
    gateway = Gateway()
    async with serving(path, gateway), linked(path) as client:
        await client.push([push(1), push(2)])
        await client.answers([Answer(b"id", 201, b"{}")])
        await client.push([])
        assert gateway.heard == [("flow", push(1)), ("flow", push(2)), ("flow", Answer(b"id", 201, b"{}"))]


def test_it_runs_on_uvloop(path: Path) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(test_pushes_and_answers_arrive_in_order_and_are_acknowledged(path))


async def test_a_push_returns_only_after_it_was_handled(path: Path) -> None:
    gateway = Gateway()
    async with serving(path, gateway), linked(path) as client:
        gateway.hold.clear()
        task = asyncio.create_task(client.push([push(1)]))
        await until(lambda: client.connected)
        done, _ = await asyncio.wait([task], timeout=0.1)
        assert not done
        gateway.hold.set()
        await asyncio.wait_for(task, 5)


async def test_the_socket_is_private(path: Path) -> None:
    async with serving(path, Gateway()):
        assert os.stat(path).st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == []


async def test_a_stale_socket_is_replaced_and_a_place_that_is_none_is_told(path: Path) -> None:
    async with serving(path, Gateway()):
        stale = path.with_name("stale.sock")
        os.rename(path, stale)
    async with serving(stale, Gateway()):
        pass
    with pytest.raises(EnvironmentFault, match="no-such-folder"):
        async with serving(path.parent / "no-such-folder" / "link.sock", Gateway()):
            pass


async def test_wakes_come_through_and_the_latest_wins(path: Path) -> None:
    gateway, heads = Gateway(), list[int]()
    gateway.marked = (3, 30)
    async with serving(path, gateway) as server, linked(path, on_wake=lambda head, time: heads.append(head)):
        await until(lambda: server.connected("flow"))
        for head in range(4, 10_001):
            server.wake("flow", head, head * 10)
        server.wake("other", 77, 77)
        await until(lambda: heads and heads[-1] == 10_000)
    assert heads[0] == 3
    assert heads == sorted(heads)
    assert len(heads) < 10


async def test_a_mark_is_answered_also_across_a_restart_of_the_gateway(path: Path) -> None:
    gateway, marks = Gateway(), list[tuple[int, int]]()
    async with linked(path, on_mark=lambda head, time: marks.append((head, time))) as client:
        await asyncio.to_thread(client.ask_mark)
        gateway.marked = (8, 80)
        async with serving(path, gateway):
            await until(lambda: marks == [(8, 80)])
            await asyncio.to_thread(client.ask_mark)
            await until(lambda: marks == [(8, 80)] * 2)


async def test_a_mark_that_a_gateway_took_to_its_grave_is_asked_again(path: Path) -> None:
    asked = asyncio.Event()

    async def dying(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.send(encode(Wake(0, 0)))
        assert decode_upward(await connection.recv()) == AskMark()
        asked.set()

    gateway, marks = Gateway(), list[tuple[int, int]]()
    async with linked(path, on_mark=lambda head, time: marks.append((head, time))) as client:
        client.ask_mark()
        server = await unix_serve(dying, str(path))
        await asyncio.wait_for(asked.wait(), 5)
        server.close()
        await server.wait_closed()
        async with serving(path, gateway):
            await until(lambda: marks == [(0, 0)])


async def test_used_and_report_from_other_threads_and_used_again_after_a_reconnect(path: Path) -> None:
    first, second = Gateway(), Gateway()
    async with linked(path) as client:
        async with serving(path, first):
            await asyncio.to_thread(client.used, 5)
            await until(lambda: ("flow", 5) in first.heard)
            report = Report({"stats": {"in": 3, "out": 2}}, 0.5, 1 << 20)
            await asyncio.to_thread(client.report, report)
            await until(lambda: ("flow", report) in first.heard)
        async with serving(path, second):
            await until(lambda: ("flow", 5) in second.heard)
    assert not any(isinstance(item, Report) for _, item in second.heard)


async def test_the_gateway_is_restarted_while_a_worker_pushes(path: Path) -> None:
    gateway = Gateway()
    async with linked(path) as client:

        async def work() -> None:
            for number in range(0, 600, 2):
                await client.push([push(number), push(number + 1)])

        task = asyncio.create_task(work())
        while not task.done():
            before = len(gateway.heard)
            async with serving(path, gateway):
                await until(lambda: task.done() or len(gateway.heard) > before + 120)  # noqa: B023 - awaited at once
        await task
    assert gateway.pushed() == [b"%d" % number for number in range(600)]


async def test_what_is_unacknowledged_comes_again_in_order_and_with_the_same_ids(path: Path) -> None:
    gateway = Gateway()
    async with linked(path) as client, serving(path, gateway):
        await client.push([push(0)])
        gateway.fail = 1
        waiting = [asyncio.create_task(client.push([push(number)])) for number in range(1, 50)]
        await asyncio.wait_for(asyncio.gather(*waiting), 10)
    assert gateway.pushed() == [b"%d" % number for number in range(50)]
    assert (gateway.states, gateway.fail) == ([("flow", True), ("flow", False)] * 2, 0)


async def test_what_waits_goes_in_one_frame(path: Path) -> None:
    gateway = Gateway()
    sizes: list[int] = []
    handle = gateway.on_push

    async def on_push(flow: str, pushes: list[object]) -> None:
        sizes.append(len(pushes))
        await handle(flow, pushes)  # type: ignore[arg-type]

    gateway.on_push = on_push  # type: ignore[assignment,method-assign]
    async with serving(path, gateway), linked(path) as client:
        await asyncio.gather(*(client.push([push(number)]) for number in range(1_000)))
    assert gateway.pushed() == [b"%d" % number for number in range(1_000)]
    assert len(sizes) < 20


async def test_no_room_is_back_pressure(path: Path) -> None:
    gateway = Gateway()
    async with serving(path, gateway), linked(path, window=100_000) as client:
        gateway.hold.clear()
        tasks = [asyncio.create_task(client.push([push(number, 30_000)])) for number in range(200)]
        await until(lambda: client.connected and client._sent_bytes > 0)
        await asyncio.wait(tasks, timeout=0.1)
        assert client._sent_bytes < 250_000
        assert client._waiting_bytes < 200_000
        assert not any(task.done() for task in tasks)
        gateway.hold.set()
        await asyncio.wait_for(asyncio.gather(*tasks), 10)
    assert gateway.pushed() == [b"%d" % number for number in range(200)]


async def test_an_item_that_no_frame_can_hold_is_refused(path: Path) -> None:
    async with serving(path, Gateway()), linked(path) as client:
        with pytest.raises(EventFault, match="takes at most"):
            await client.push([push(1, 40 << 20)])
        await client.push([push(2, 20 << 20), push(3)])


async def test_a_wrong_token_is_refused(path: Path) -> None:
    gateway = Gateway()
    async with serving(path, gateway):
        with pytest.raises(EnvironmentFault, match="token"):
            await asyncio.wait_for(LinkClient(path, "flow", "guess").run(), 5)
        assert gateway.states == []


async def test_a_new_link_replaces_the_old_one(path: Path) -> None:
    gateway = Gateway()
    async with serving(path, gateway) as server:
        old = asyncio.create_task(LinkClient(path, "flow", TOKEN).run())
        await until(lambda: server.connected("flow"))
        async with linked(path) as new:
            with pytest.raises(EnvironmentFault, match="another worker"):
                await asyncio.wait_for(old, 10)
            await new.push([push(1)])
            assert server.connected("flow")
            assert gateway.states == [("flow", True)] * 2
        await until(lambda: gateway.states[-1] == ("flow", False))
    assert gateway.states == [("flow", True)] * 2 + [("flow", False)]


async def test_a_worker_of_an_unknown_flow_waits_until_it_is_known(path: Path) -> None:
    gateway = Gateway()
    async with serving(path, gateway), linked(path, "unknown") as client:
        task = asyncio.create_task(client.push([push(1)]))
        await asyncio.wait([task], timeout=0.3)
        assert gateway.states == []
        gateway.mark = lambda flow: (0, 0)  # type: ignore[method-assign]
        await asyncio.wait_for(task, 10)


HELLO = Hello("flow", TOKEN, 1)


@pytest.mark.parametrize(
    "messages",
    [
        [b"\xc1"],
        ["text"],
        [encode(AskMark())],
        [encode(HELLO), b"\x93\xa5batch\x01"],
        [encode(HELLO), "text"],
        [encode(HELLO), encode(HELLO)],
        [encode(HELLO), encode(Wake(1, 1))],
        [encode(HELLO), b"\x91" * 100_000],
    ],
)
async def test_a_malformed_frame_closes_its_link_and_harms_nothing(path: Path, messages: list[bytes | str]) -> None:
    gateway = Gateway()
    async with serving(path, gateway), linked(path, "other") as client:
        await client.push([push(1)])
        async with unix_connect(str(path), URI, compression=None, proxy=None) as hostile:
            with contextlib.suppress(ConnectionClosed):
                for message in messages:
                    await hostile.send(message)
            await asyncio.wait_for(hostile.wait_closed(), 5)
            assert hostile.close_code in (1002, 1007, 4401)
        await client.push([push(2)])
    assert gateway.pushed() == [b"1", b"2"]
    assert gateway.states.count(("flow", True)) == gateway.states.count(("flow", False))


async def test_a_worker_that_does_not_read_costs_one_frame_a_kind(path: Path) -> None:
    gateway = Gateway()
    async with serving(path, gateway) as server, unix_connect(str(path), URI, proxy=None, max_queue=1) as idle:
        await idle.send(encode(HELLO))
        await until(lambda: server.connected("flow"))
        for head in range(200_000):
            server.wake("flow", head, head)
            if head % 500 == 0:
                await asyncio.sleep(0)
        link = server._links["flow"]
        assert len(link._pending) <= 1
        last: Upward | object = None
        while last != Wake(199_999, 199_999):
            last = decode_downward(await asyncio.wait_for(idle.recv(), 5))


async def test_a_worker_that_is_killed_loses_nothing_that_it_was_told(path: Path) -> None:
    gateway = Gateway()
    async with serving(path, gateway):
        command = [sys.executable, "-c", PUSH_FOR_EVER, str(path)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220 - killed below
        try:
            await until(lambda: len(gateway.heard) > 300, 20)
        finally:
            process.kill()
            output, _ = await asyncio.to_thread(process.communicate)
        await until(lambda: gateway.states[-1] == ("flow", False))
    told = [int(number) for number in output.split()]
    assert gateway.pushed()[: len(told)] == [b"%d" % number for number in told]
    assert len(gateway.heard) - len(told) <= 1


async def test_batches_may_hold_both_kinds(path: Path) -> None:
    gateway = Gateway()
    async with serving(path, gateway), unix_connect(str(path), URI, proxy=None) as raw:
        await raw.send(encode(HELLO))
        await raw.send(encode(Batch(7, [Answer(b"a", 200, b""), push(1)])))
        frames = [decode_downward(await raw.recv()) for _ in range(3)]
    assert [type(frame).__name__ for frame in frames] == ["Wake", "Wake", "Ack"]
    assert sorted(gateway.heard, key=repr) == [("flow", Answer(b"a", 200, b"")), ("flow", push(1))]


async def test_batches_are_acknowledged_in_order_while_later_ones_are_handled(path: Path) -> None:
    gateway, work = Gateway(), list[asyncio.Future[None]]()

    def on_push(flow: str, pushes: list[object]) -> asyncio.Future[None]:
        work.append(asyncio.get_running_loop().create_future())
        return work[-1]

    gateway.on_push = on_push  # type: ignore[assignment,method-assign]
    async with serving(path, gateway), unix_connect(str(path), URI, proxy=None) as raw:
        for frame in (HELLO, Batch(1, [push(1)]), Batch(2, [push(2)])):
            await raw.send(encode(frame))
        await until(lambda: len(work) == 2)
        work[1].set_result(None)
        await raw.send(encode(AskMark()))
        frames = [type(decode_downward(await raw.recv())).__name__ for _ in range(3)]
        assert frames == ["Wake", "Wake", "Mark"]
        work[0].set_result(None)
        assert decode_downward(await raw.recv()) == Ack(2)
