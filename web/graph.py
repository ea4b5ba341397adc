"""Lay a flow's graph out from left to right: layers by longest path, few crossings, straight wires.

The steps are those of Sugiyama, Tagawa and Toda (1981): layers, bends for wires that skip a layer, order by barycentre,
then heights by isotonic least squares.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import msgspec

WIDTH, HEIGHT = 176.0, 80.0
ACROSS, DOWN = 56.0, 20.0
BEND, STIFF = 12.0, 12.0
MARGIN = 14.0
SWEEPS, SETTLING = 12, 60

Wire = tuple[str, str]


class Box(msgspec.Struct, frozen=True):
    """Where a node stands; x and y are its left upper corner, in pixels."""

    x: float
    y: float
    layer: int
    width: float = WIDTH
    height: float = HEIGHT


class Layout(msgspec.Struct, frozen=True):
    """A drawing: boxes by node, an SVG path for each wire in the order they were given, and the whole size."""

    boxes: dict[str, Box]
    paths: list[str]
    width: float
    height: float


def layers(nodes: Mapping[str, str], wires: Sequence[Wire]) -> dict[str, int]:
    """Return each node's layer by its section: sources in the first, sinks in the last, operators by longest path."""
    found = {name: 0 if section == "sources" else 1 for name, section in nodes.items()}
    for _ in nodes:  # a longest path has no more wires than there are nodes; a cycle stops growing here too
        moved = False
        for start, end in wires:
            if nodes[end] != "sources" and found[end] < min(found[start] + 1, len(nodes)):
                found[end], moved = found[start] + 1, True
        if not moved:
            break
    last = max((layer for name, layer in found.items() if nodes[name] == "operators"), default=0) + 1
    return {name: last if nodes[name] == "sinks" else layer for name, layer in found.items()}


def lay_out(nodes: Mapping[str, str], wires: Sequence[Wire]) -> Layout:
    """Return the drawing of a graph; `nodes` gives each node's section: sources, operators or sinks."""
    level = layers(nodes, wires)
    chains, columns = _with_bends(level, wires)
    links = [pair for chain in chains for pair in pairwise(chain)]
    columns = _ordered(columns, links)
    heights = {name: HEIGHT if name in nodes else BEND for column in columns for name in column}
    middle = _settled(columns, links, heights)
    top = min((middle[name] - heights[name] / 2 for name in middle), default=0.0)
    boxes = {
        name: Box(MARGIN + layer * (WIDTH + ACROSS), middle[name] - HEIGHT / 2 - top + MARGIN, layer)
        for name, layer in level.items()
    }
    at = {name: value - top + MARGIN for name, value in middle.items()}
    bottom = max((at[name] + heights[name] / 2 for name in at), default=0.0)
    across = MARGIN * 2 + len(columns) * (WIDTH + ACROSS) - ACROSS if columns else 0.0
    return Layout(boxes, [_path(chain, level[chain[0]], at) for chain in chains], across, bottom + MARGIN)


def _with_bends(level: Mapping[str, int], wires: Sequence[Wire]) -> tuple[list[list[str]], list[list[str]]]:
    """Return each wire as a chain of names with a bend in every layer that it crosses, and the columns of names."""
    columns: list[list[str]] = [[] for _ in range(max(level.values(), default=-1) + 1)]
    for name, layer in level.items():
        columns[layer].append(name)
    chains = []
    for number, (start, end) in enumerate(wires):
        bends = [f"{number} {layer}" for layer in range(level[start] + 1, level[end])]
        for layer, bend in enumerate(bends, level[start] + 1):
            columns[layer].append(bend)
        chains.append([start, *bends, end])
    return chains, columns


def _neighbours(links: Iterable[Wire]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    before: dict[str, list[str]] = {}
    after: dict[str, list[str]] = {}
    for start, end in links:
        before.setdefault(end, []).append(start)
        after.setdefault(start, []).append(end)
    return before, after


def _ordered(columns: list[list[str]], links: Sequence[Wire]) -> list[list[str]]:
    """Return the columns sorted by barycentre, sweeping to and fro, as they were when the crossings were fewest."""
    before, after = _neighbours(links)
    best, fewest = columns, crossings(columns, links)
    for sweep in range(SWEEPS):
        beside = after if sweep % 2 else before
        columns = [list(column) for column in columns]
        place = {name: index for column in columns for index, name in enumerate(column)}
        for column in reversed(columns) if sweep % 2 else columns:
            column.sort(key=lambda name: _mean([place[other] for other in beside.get(name, [])], place[name]))
            place.update({name: index for index, name in enumerate(column)})
        count = crossings(columns, links)
        if count < fewest:
            best, fewest = columns, count
    return best


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def crossings(columns: Sequence[Sequence[str]], links: Iterable[Wire]) -> int:
    """Return how many pairs of wires between neighbouring columns cross."""
    place = {name: (layer, index) for layer, column in enumerate(columns) for index, name in enumerate(column)}
    between: dict[int, list[tuple[int, int]]] = {}
    for start, end in links:
        between.setdefault(place[start][0], []).append((place[start][1], place[end][1]))
    return sum(
        (a - c) * (b - d) < 0 for pairs in between.values() for i, (a, b) in enumerate(pairs) for c, d in pairs[:i]
    )


def _settled(columns: Sequence[Sequence[str]], links: Sequence[Wire], heights: Mapping[str, float]) -> dict[str, float]:
    """Return each name's middle height: near its neighbours', in the column's order, without overlap."""
    before, after = _neighbours(links)
    middle = {name: float(index) * (HEIGHT + DOWN) for column in columns for index, name in enumerate(column)}
    for sweep in range(SETTLING):
        for column in columns if sweep % 2 == 0 else reversed(columns):
            beside = {name: before.get(name, []) + after.get(name, []) for name in column}
            wanted = [_pulled(name, beside[name], middle, heights) for name in column]
            weights = [1.0 if heights[name] == HEIGHT else 8.0 for name in column]
            gaps = [
                (heights[a] + heights[b]) / 2 + (DOWN if HEIGHT in (heights[a], heights[b]) else BEND)
                for a, b in pairwise(column)
            ]
            middle.update(zip(column, spread(wanted, gaps, weights), strict=True))
    return middle


def _pulled(name: str, beside: Sequence[str], middle: Mapping[str, float], heights: Mapping[str, float]) -> float:
    """Return where a name's neighbours would have it; two bends of a wire hold together, which keeps it level."""
    pulls = [STIFF if heights[name] == heights[other] == BEND else 1.0 for other in beside]
    weighed = sum(pull * middle[other] for pull, other in zip(pulls, beside, strict=True))
    return weighed / sum(pulls) if pulls else middle[name]


def spread(wanted: Sequence[float], gaps: Sequence[float], weights: Sequence[float]) -> list[float]:
    """Return the places nearest to `wanted` (least squares) that keep the order and at least the gaps between them.

    Pool adjacent violators: without the gaps it is isotonic regression.
    """
    offsets = [0.0]
    for gap in gaps:
        offsets.append(offsets[-1] + gap)
    pools: list[tuple[float, float, int]] = []
    for want, offset, weight in zip(wanted, offsets, weights, strict=False):
        mean, total, count = want - offset, weight, 1
        while pools and pools[-1][0] > mean:
            other, more, members = pools.pop()
            mean = (mean * total + other * more) / (total + more)
            total, count = total + more, count + members
        pools.append((mean, total, count))
    flat = [mean for mean, _, count in pools for _ in range(count)]
    return [mean + offset for mean, offset in zip(flat, offsets, strict=False)]


def _path(chain: Sequence[str], layer: int, at: Mapping[str, float]) -> str:
    """Return the SVG path of a wire: from a box's right edge to another's left edge, level where it passes boxes."""
    left = [MARGIN + (layer + step) * (WIDTH + ACROSS) for step in range(len(chain))]
    path = f"M{left[0] + WIDTH:.1f} {at[chain[0]]:.1f}"
    for (x, name), (to_x, to) in pairwise(zip(left, chain, strict=True)):
        half = (x + WIDTH + to_x) / 2
        path += f"C{half:.1f} {at[name]:.1f} {half:.1f} {at[to]:.1f} {to_x:.1f} {at[to]:.1f}"
        path += f"H{to_x + WIDTH:.1f}" if to != chain[-1] else ""
    return path
