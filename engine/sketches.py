"""Summaries of many values in bounded space, as plain dicts and bytes that MessagePack carries.

Quantiles: DDSketch (Masson, Rim and Lee, VLDB 2019). Distinct values: HyperLogLog (Flajolet and others, 2007) with
the estimator of Ertl (2017), which needs no correction tables. Frequent values: Misra and Gries (1982), merged as by
Agarwal and others (2013). The first two do not depend on the order in which values come.
"""

import math
from bisect import bisect_right
from hashlib import blake2b
from itertools import accumulate
from typing import Any

ACCURACY = 0.01
"""How far a quantile of a sketch may be from the true one, relative to it."""
_GAMMA = (1 + ACCURACY) / (1 - ACCURACY)
_LOG_GAMMA = math.log(_GAMMA)
_BUCKETS = 2048  # 17 decades below the greatest magnitude; what is smaller counts as the smallest of them
_BITS = 12
REGISTERS = 1 << _BITS
"""Of a HyperLogLog: the standard error is 1.04 / sqrt(registers), 1.6 %."""
_RANKS = 64 - _BITS

Sketch = dict[str, Any]


def quantile_sketch() -> Sketch:
    """Return an empty sketch: how many zeros there were, and buckets of negative and positive magnitudes."""
    return {"0": 0, "-": {}, "+": {}}


def add_quantile(sketch: Sketch, value: float) -> None:
    """Count a finite value into a sketch."""
    if value == 0:
        sketch["0"] += 1
        return
    buckets = sketch["+" if value > 0 else "-"]
    index = math.ceil(math.log(abs(value)) / _LOG_GAMMA)
    buckets[index] = buckets.get(index, 0) + 1
    _fold(buckets)


def merged_quantiles(one: Sketch, other: Sketch) -> Sketch:
    """Return the sketch of the values of both."""
    found: Sketch = {"0": one["0"] + other["0"]}
    for sign in "-+":
        buckets = found[sign] = dict(one[sign])
        for index, number in other[sign].items():
            buckets[index] = buckets.get(index, 0) + number
        _fold(buckets)
    return found


def _fold(buckets: dict[int, int]) -> None:
    """Put the buckets of the smallest magnitudes together where there are too many."""
    if len(buckets) > _BUCKETS:
        low = max(buckets) - _BUCKETS + 1
        for index in [index for index in buckets if index < low]:
            buckets[low] = buckets.get(low, 0) + buckets.pop(index)


def sketched_quantile(sketch: Sketch, part: float) -> float:
    """Return the quantile at `part` (0 to 1) within ACCURACY, between two ranks by linear interpolation."""
    middles: list[tuple[float, int]] = [
        (-_middle(index), number) for index, number in sorted(sketch["-"].items(), reverse=True)
    ]
    middles += [(0.0, sketch["0"]), *((_middle(index), number) for index, number in sorted(sketch["+"].items()))]
    ranks = list(accumulate(number for _, number in middles))
    place = part * (ranks[-1] - 1)
    low, high = (middles[bisect_right(ranks, rank)][0] for rank in (math.floor(place), math.ceil(place)))
    return float(low + (high - low) * (place - math.floor(place)))


def _middle(index: int) -> float:
    return 2 * math.exp(index * _LOG_GAMMA) / (_GAMMA + 1)


def hashed(value: bytes) -> int:
    """Return 64 bits that stand for a value."""
    return int.from_bytes(blake2b(value, digest_size=8).digest())


def distinct_sketch(hashes: Any) -> bytearray:
    """Return the HyperLogLog of values given by their 64 bits."""
    registers = bytearray(REGISTERS)
    for one in hashes:
        add_distinct(registers, one)
    return registers


def add_distinct(registers: bytearray, one: int) -> None:
    """Note a value by its 64 bits."""
    index, rest = one >> _RANKS, one & ((1 << _RANKS) - 1)
    rank = _RANKS - rest.bit_length() + 1
    if rank > registers[index]:
        registers[index] = rank


def merged_distinct(one: bytes | bytearray, other: bytes | bytearray) -> bytearray:
    """Return the registers of the values of both."""
    return bytearray(map(max, one, other))


def distinct_count(registers: bytes | bytearray) -> int:
    """Return about how many distinct values were noted: algorithm 6 of Ertl, arXiv 1702.01284."""
    counts = [0] * (_RANKS + 2)
    for rank in registers:
        counts[rank] += 1
    found = REGISTERS * _tau(1 - counts[_RANKS + 1] / REGISTERS)
    for rank in range(_RANKS, 0, -1):
        found = 0.5 * (found + counts[rank])
    found += REGISTERS * _sigma(counts[0] / REGISTERS)
    return round(REGISTERS * REGISTERS / (2 * math.log(2) * found))


def _sigma(x: float) -> float:
    if x == 1:
        return math.inf
    power, found, before = 1.0, x, -1.0
    while found != before:
        x, before = x * x, found
        found, power = found + x * power, power + power
    return found


def _tau(x: float) -> float:
    if x in (0.0, 1.0):
        return 0.0
    power, found, before = 1.0, 1 - x, -1.0
    while found != before:
        x, before, power = math.sqrt(x), found, power / 2
        found -= (1 - x) ** 2 * power
    return found / 3


def add_frequent(counts: dict[str, int], value: str, most: int) -> None:
    """Count a value; with more than `most` different ones a count may be too low by n / (most + 1), never too high."""
    if value in counts or len(counts) < most:
        counts[value] = counts.get(value, 0) + 1
        return
    for other in list(counts):
        counts[other] -= 1
        if not counts[other]:
            del counts[other]


def merged_frequent(one: dict[str, int], other: dict[str, int], most: int) -> dict[str, int]:
    """Return the counts of both, with the same bound of the error."""
    found = dict(one)
    for value, number in other.items():
        found[value] = found.get(value, 0) + number
    if len(found) <= most:
        return found
    least = sorted(found.values(), reverse=True)[most]
    return {value: number - least for value, number in found.items() if number > least}
