"""What a shard stores: both forms are read, and what MessagePack refuses is kept as near as it can."""

from typing import Any

import msgspec

from engine.event import Event
from engine.snapshot import decoded, encoded, storable


def test_a_snapshot_gives_back_the_time_and_the_states() -> None:
    states = {"a": Held(1), "b": Held(2, Event(b"i", 1, "b", "", "", {"n": 1}))}
    assert decoded(encoded(7, states), Held) == (7, states)
    assert decoded(encoded(0, {}), Held) == (0, {})


def test_what_earlier_versions_wrote_is_read() -> None:
    states = {"a": Held(1), "b": Held(2)}
    assert decoded(msgspec.msgpack.encode((7, states)), Held) == (7, states)
    assert decoded(msgspec.msgpack.encode((7, {"k": 5})), int) == (7, {"k": 5})


def test_a_state_that_messagepack_refuses_is_stored_as_near_as_it_can() -> None:
    now, states = decoded(encoded(7, {"k": Held(5, Event(b"i", 1, "k", "", "", {"n": 2**80}))}), Held)
    assert (now, states["k"].waiting.data["n"]) == (7, 2.0**80)


class Held(msgspec.Struct, array_like=True):
    """A state as operators have it."""

    since: int
    waiting: Event | None = None


def test_what_messagepack_refuses_is_stored_as_near_as_it_can() -> None:
    deep: Any = 1
    for _ in range(200):
        deep = [deep]
    data = {
        "large": 2**80,
        "huge": 10**400,
        "set": {1},
        "object": object,
        "deep": deep,
        "fine": [1, "a", None, b"x", True],
    }
    found = storable({"k": Held(5, Event(b"i", 1, "k", "", "", data, None, 1))})
    decoded = msgspec.msgpack.decode(msgspec.msgpack.encode(found), type=dict[str, Held])
    assert decoded["k"].waiting is not None
    kept = decoded["k"].waiting.data
    assert (kept["large"], kept["huge"], kept["set"], kept["fine"]) == (2.0**80, None, [1], [1, "a", None, b"x", True])


def test_registers_stay_bytes_where_a_number_beside_them_is_too_large() -> None:
    (state,) = decoded(encoded(1, {"a": [2**70, bytearray(b"\x01\x02")]}), list[Any])[1].values()
    assert state == [float(2**70), b"\x01\x02"]
