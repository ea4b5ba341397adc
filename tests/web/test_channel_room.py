"""A room: whoever is written to directly, or is not for a while, gets the same frames in the same order."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from web import channel_room
from web.channel_message import TOO_SLOW, Message, Write, nothing
from web.channel_room import Listener, Room, together, websocket_frame


class Socket:
    """A client with a buffer: full after so many writes, until it is emptied; then messages have to be sent."""

    def __init__(self, room_for: int) -> None:
        self.written, self.queued = b"", list[Message]()
        self.on_change: Callable[[], None] = nothing
        self.cuts: list[int] = []
        self.lost = False
        self._left = room_for

    @property
    def waiting(self) -> tuple[int, float]:
        return len(self.queued), 0.0

    @property
    def direct(self) -> Write | None:
        return self.write if self._left and not self.queued else None

    def write(self, frames: bytes) -> None:
        if self.lost:
            raise RuntimeError("the handler is closed")
        assert self._left, "written to without room"
        self.written += frames
        self._left -= 1
        if not self._left:
            self.on_change()

    def send(self, message: Message) -> None:
        if self._left and not self.queued:
            self.write(websocket_frame(message))
        else:
            self.queued.append(message)

    def cut(self, code: int, reason: str) -> None:
        self.cuts.append(code)

    def empty(self, room_for: int) -> None:
        self._left, queued, self.queued = room_for, self.queued, []
        for message in queued:
            self.send(message)
        self.on_change()


def message(number: int, size: int = 1) -> Message:
    return Message(f"run-{number}", "e", b'"%0*d"' % (size, number), b"%016d" % number)


def frames(messages: list[Message]) -> bytes:
    return b"".join(map(websocket_frame, messages))


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(1, 4)),
        st.tuples(st.just("empty"), st.integers(0, 3)),
        st.tuples(st.just("release"), st.just(0)),
    ),
    max_size=25,
)


@given(STEPS, st.integers(0, 3), st.sets(st.integers(0, 40), max_size=5))
def test_nobody_misses_anything_or_gets_it_twice(steps: list[tuple[str, int]], room_for: int, known: set[int]) -> None:
    room, client, steady = Room(), Socket(room_for), Socket(1_000)
    listener, sent = room.enter(client, ""), list[Message]()
    listener.known = {b"%016d" % number for number in known}
    room.enter(steady, "").release()
    for step, number in [*steps, ("release", 0), ("empty", 1_000)]:
        if step == "send":
            some = [message(len(sent) + at) for at in range(number)]
            room.send(some)
            sent += some
        elif step == "empty":
            client.empty(number)
        elif listener.held is not None:
            listener.release()
    assert steady.written == frames(sent)
    assert client.written == frames([one for one in sent if int(one.origin) not in known])


def test_many_messages_are_one_write_up_to_a_bound() -> None:
    room, client, writes = Room(), Socket(1_000), list[int]()
    room.enter(client, "").release()
    client.write = lambda frames: writes.append(len(frames))  # type: ignore[method-assign]
    client.on_change()
    room.send([message(number) for number in range(100)])
    assert writes == [len(frames([message(number) for number in range(100)]))]
    writes.clear()
    room.send([message(number, 20_000) for number in range(10)])
    assert len(writes) == 3
    assert max(writes) < channel_room.TOGETHER + 21_000
    assert [len(some) for some, _ in together([message(number, 20_000) for number in range(10)])] == [4, 4, 2]


def test_who_has_left_is_not_written_to_even_when_there_is_room_again() -> None:
    room, client = Room(), Socket(1)
    listener = room.enter(client, "")
    listener.release()
    room.leave(listener)
    room.leave(listener)
    client.empty(5)
    room.send([message(1)])
    assert (client.written, room.members) == (b"", set())


def test_a_connection_that_is_lost_costs_the_others_nothing() -> None:
    room, gone, here = Room(), Socket(10), Socket(10)
    for client in (gone, here):
        room.enter(client, "").release()
    gone.lost = True
    room.send([message(1)])
    gone.lost = False
    room.send([message(2)])
    assert here.written == frames([message(1), message(2)])
    assert gone.written == frames([message(2)])


def test_a_frame_is_made_once() -> None:
    first = message(1)
    assert [frame for _, frame in together([first])] == [websocket_frame(first)]
    assert next(iter(together([first])))[1] is next(iter(together([first])))[1]


def test_too_much_that_is_held_cuts_the_client() -> None:
    client = Socket(1)
    listener = Listener(client, "")
    for number in range(channel_room.HELD + 1):
        listener.offer(message(number))
    assert client.cuts == [TOO_SLOW]
