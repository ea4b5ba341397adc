"""Which of some things that were wanted is which of those that came."""

from collections.abc import Callable, Sequence
from typing import Any

MOST = 200
Fits = Callable[[Any, Any], bool]


def paired(wanted: Sequence[Any], got: Sequence[Any], fits: Fits) -> list[int | None]:
    """Return for each that is wanted the place of one that came, so that as many as possible have one (Kuhn 1955).

    Above 200 on a side, each takes the first that is left.
    """
    if max(len(wanted), len(got)) > MOST:
        return _first_left(wanted, got, fits)
    can = [[place for place, one in enumerate(got) if fits(want, one)] for want in wanted]
    taken: dict[int, int] = {}

    def place(number: int, seen: set[int]) -> bool:
        for at in can[number]:
            if at not in seen:
                seen.add(at)
                if at not in taken or place(taken[at], seen):
                    taken[at] = number
                    return True
        return False

    for number in range(len(wanted)):
        place(number, set())
    owner = {number: at for at, number in taken.items()}
    return [owner.get(number) for number in range(len(wanted))]


def _first_left(wanted: Sequence[Any], got: Sequence[Any], fits: Fits) -> list[int | None]:
    left = list(range(len(got)))
    found: list[int | None] = []
    for want in wanted:
        at = next((place for place in left if fits(want, got[place])), None)
        found.append(at)
        if at is not None:
            left.remove(at)
    return found


def aligned(wanted: Sequence[Any], got: Sequence[Any], fits: Fits) -> list[tuple[int | None, int | None]]:
    """Return both in order side by side (longest common subsequence); None where one has no partner.

    Of each side the first 200 are looked at.
    """
    rows, columns = min(len(wanted), MOST), min(len(got), MOST)
    same = [[fits(wanted[row], got[column]) for column in range(columns)] for row in range(rows)]
    best = [[0] * (columns + 1) for _ in range(rows + 1)]
    for row in reversed(range(rows)):
        for column in reversed(range(columns)):
            longer = max(best[row + 1][column], best[row][column + 1])
            best[row][column] = max(longer, best[row + 1][column + 1] + 1) if same[row][column] else longer
    found: list[tuple[int | None, int | None]] = []
    row = column = 0
    while row < rows and column < columns:
        if same[row][column] and best[row][column] == best[row + 1][column + 1] + 1:
            found.append((row, column))
            row, column = row + 1, column + 1
        elif best[row + 1][column] >= best[row][column + 1]:
            found.append((row, None))
            row += 1
        else:
            found.append((None, column))
            column += 1
    rest = [(one, None) for one in range(row, len(wanted))]
    return [*found, *rest, *((None, one) for one in range(column, len(got)))]
