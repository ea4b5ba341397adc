"""The breaker: closed, open, half open."""

from engine.asking import Breaker, Retry
from engine.circuit import Circuit


def circuit(failures: int = 2) -> Circuit:
    return Circuit(Breaker.model_validate({"failures": failures, "for": "10s"}))


def test_failures_in_a_row_open_it_and_an_answer_between_them_does_not() -> None:
    one = circuit()
    for _ in range(3):
        one.failed(0)
        one.answered()
    assert one.lets(0)
    one.failed(1)
    one.failed(1)
    assert one.open
    assert not one.lets(10.9)


def test_one_probe_decides_when_the_time_is_over() -> None:
    one = circuit(1)
    one.failed(0)
    assert one.lets(10)
    assert not one.lets(10)
    one.failed(12)
    assert not one.lets(21.9)
    assert one.lets(22)
    one.answered()
    assert not one.open
    assert one.lets(22)


def test_without_a_breaker_it_never_opens() -> None:
    one = Circuit(None)
    for now in range(100):
        one.failed(now)
    assert one.lets(100)


def test_the_wait_doubles_up_to_half_a_minute_and_heeds_what_the_other_side_asks() -> None:
    retry = Retry.model_validate({"wait": "1s"})
    assert [retry.pause(attempt) for attempt in (0, 1, 2, 4, 5, 99)] == [1, 2, 4, 16, 30, 30]
    assert retry.pause(0, 7.0) == 7
    assert retry.pause(0, 900.0) == 30
