"""Layout of a flow's graph: layers, crossings, no overlaps."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from web.graph import HEIGHT, WIDTH, crossings, lay_out, layers, spread

NODES = {"a": "sources", "b": "sources", "v": "operators", "w": "operators", "x": "sinks", "y": "sinks"}
WIRES = [("a", "v"), ("b", "v"), ("v", "w"), ("w", "x"), ("v", "y"), ("a", "y")]


def test_layers_are_sections_and_longest_paths() -> None:
    assert layers(NODES, WIRES) == {"a": 0, "b": 0, "v": 1, "w": 2, "x": 3, "y": 3}
    assert layers({}, []) == {}
    assert layers({"a": "sources", "x": "sinks"}, [("a", "x")]) == {"a": 0, "x": 1}


def test_a_cycle_ends() -> None:
    nodes = {"a": "sources", "v": "operators", "w": "operators"}
    assert lay_out(nodes, [("a", "v"), ("v", "w"), ("w", "v")]).boxes.keys() == nodes.keys()


def test_a_wire_ends_at_its_boxes() -> None:
    layout = lay_out(NODES, WIRES)
    for (start, end), path in zip(WIRES, layout.paths, strict=True):
        first, last = layout.boxes[start], layout.boxes[end]
        assert path.startswith(f"M{first.x + WIDTH:.1f} {first.y + HEIGHT / 2:.1f}C")
        assert path.endswith(f" {last.x:.1f} {last.y + HEIGHT / 2:.1f}")


def test_crossings_are_undone() -> None:
    nodes = {f"s{n}": "sources" for n in range(5)} | {f"t{n}": "sinks" for n in range(5)}
    wires = [(f"s{n}", f"t{4 - n}") for n in range(5)]
    layout = lay_out(nodes, wires)
    order = [sorted((n for n in nodes if n[0] == c), key=lambda name: layout.boxes[name].y) for c in "st"]
    assert crossings([list(nodes)[:5], list(nodes)[5:]], wires) == 10
    assert crossings(order, wires) == 0
    assert [layout.boxes[s].y for s, _ in wires] == [layout.boxes[t].y for _, t in wires], "and they are straight"


def test_spread_is_the_nearest_that_fits() -> None:
    assert spread([0, 0, 0], [10, 10], [1, 1, 1]) == [-10, 0, 10]
    assert spread([5, 50], [10], [1, 1]) == [5, 50]
    assert spread([0, 0], [10], [3, 1]) == [-2.5, 7.5]
    assert spread([], [], []) == []


@given(st.data())
def test_boxes_never_overlap(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 14))
    sections = data.draw(st.lists(st.sampled_from(["sources", "operators", "sinks"]), min_size=count, max_size=count))
    nodes = {f"n{index}": section for index, section in enumerate(sections)}
    ends = st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)).filter(lambda pair: pair[0] < pair[1])
    chosen = data.draw(st.lists(ends, max_size=20, unique=True)) if count > 1 else []
    wires = [(f"n{a}", f"n{b}") for a, b in chosen if sections[a] != "sinks" and sections[b] != "sources"]
    layout = lay_out(nodes, wires)
    columns: dict[float, list[float]] = {}
    for box in layout.boxes.values():
        columns.setdefault(box.x, []).append(box.y)
        assert 0 <= box.x <= layout.width - WIDTH
        assert -1e-6 <= box.y <= layout.height - HEIGHT
    for heights in columns.values():
        assert all(below - above >= HEIGHT for above, below in pairwise(sorted(heights)))
    for start, end in wires:
        assert layout.boxes[start].layer < layout.boxes[end].layer
