"""How long and how hard: the whole matrix, and the short one of the test run."""

import msgspec


class Scale(msgspec.Struct, frozen=True):
    """Times and counts of the rows; durations in seconds, `rate` in events a second."""

    rate: int = 2_000
    worker_kills: int = 20
    gateway_kills: int = 10
    power_cuts: int = 10
    pause: float = 1.5
    database_away: float = 60.0
    broker_away: float = 30.0
    redeploys: int = 10
    disk_full: float = 8.0
    calm: float = 15.0
    clients: int = 1_000
    not_reading: int = 100
    worker_back: float = 3.0
    caught_up: float = 60.0
    lag_factor: float = 2.0


WHOLE = Scale()
SHORT = Scale(
    rate=600, worker_kills=2, gateway_kills=1, power_cuts=1, pause=0.5, database_away=4.0, broker_away=3.0, redeploys=1,
    disk_full=2.0, calm=3.0, clients=60, not_reading=10, worker_back=30.0, caught_up=60.0, lag_factor=20.0,
)  # fmt: skip
"""On a slow machine that does other things beside: the bounds on time are generous, all else is the same."""
