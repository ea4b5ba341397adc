"""The loop of windows on the clock over many events: it adds what only adds, and leaves what closes to `on_event`."""

from engine.expressions import Expression
from engine.loop_writer import Loop, LoopWriter
from engine.measure import LARGEST, Measure
from engine.window_shapes import Aligned
from engine.windows import Open


def aligned_loop(shape: Aligned) -> Loop:
    """Return the loop for windows with these measures; none has numbered rows."""
    loop, measures, by_event = LoopWriter(lasting=["b = None"]), shape.measures.all, shape.terms.by_event
    with loop.attempt():
        known = {m.of: _write_value(loop, m.of) for m in measures if m.of is not None}
        added = {m.name: _write_prepared(loop, m, known[m.of]) for m in measures if m.of is not None}
        loop.line("a = e.arrival")
        if by_event:
            loop.line(f"t = e.time; w = t - t % {shape.pane}")
    if not by_event:
        loop.line(f"if a != b: b = a; w = a - a % {shape.pane}")
    numbers = (m.of for m in measures if m.of is not None and m.does in ("sum", "mean", "min", "max"))
    for value in dict.fromkeys(known[of] for of in numbers):
        loop.leave(f"if {_no_number(value)}:")
    with loop.block("if s is None:"):
        _write_new(loop, shape)
    with loop.block("else:"):
        _write_open(loop, shape)
    loop.line("k[0] += 1")
    for index, measure in enumerate(measures, 1):
        if measure.of is not None:
            _write_add(loop, measure, f"k[{index}]", added[measure.name], "t" if by_event else "a")
    return loop.compiled("<window>")


def _in_place(measure: Measure) -> bool:
    return measure.simple and not measure.timed and measure.does != "count"


def _write_value(loop: LoopWriter, of: Expression) -> str:
    value = loop.name("m")
    loop.line(f"{value} = {loop.expression(of)}")
    return value


def _write_prepared(loop: LoopWriter, measure: Measure, value: str) -> str:
    """Write what a measure makes of a value before it is added, for one that is not added in place."""
    if _in_place(measure):
        return value
    prepared = loop.name("p")
    loop.line(f"{prepared} = None if {value} is None else {loop.bind(measure.prepare)}({value})")
    return prepared


def _write_new(loop: LoopWriter, shape: Aligned) -> None:
    """Open the first window of a key."""
    loop.leave(f"if w + {shape.length} <= 0:")
    loop.line(f"k = [0{', None' * len(shape.measures.all)}]")
    latest, closed = "e.time if e.time > a else a", "a"
    if shape.terms.by_event:
        latest, closed = "t", f"t - {shape.terms.lateness}"
    closed = f"c if (c := {closed}) > 0 else 0"
    loop.line(f"states[y] = {loop.bind(Open)}({latest}, a, {closed}, {{w: k}})")
    loop.line("changed.append(y)")


def _write_open(loop: LoopWriter, shape: Aligned) -> None:
    """Find the window and move the key's times on; what closes a window is left."""
    tumbling = shape.pane == shape.length
    ends = f"(n := s.closed) - (n - {shape.length}) % {shape.every} + {shape.every}"
    loop.line("o = s.windows; k = o.get(w)")
    if not shape.terms.by_event:
        more = "len(o) > 1 or " if tumbling else ""  # a pane that is there begins after all ends before this event
        loop.leave(f"if k is None or {more}a < s.closed:")
        loop.line("s.arrived = s.closed = a")
        loop.line("if a > s.latest: s.latest = a")
        return
    loop.line(f"l = s.latest; m = t if t > l else l; q = a - s.arrived; c = m - {shape.terms.lateness}")
    first = f"(w if len(o) == 1 else min(o)) + {shape.every}" if tumbling else ends
    loop.leave(f"if k is None or q > {shape.terms.idle} or {first} <= c:")
    loop.line("if m - l > q: changed.append(y)")
    loop.line("s.latest = m; s.arrived = a")
    loop.line("if c > s.closed: s.closed = c")


def _no_number(value: str) -> str:
    """Return the source of a condition: what `Measure.number` may refuse."""
    is_int = f"{value}.__class__ is int and -{LARGEST} < {value} < {LARGEST}"
    return f"not ({value}.__class__ is float or {value} is None or {is_int})"


def _write_add(loop: LoopWriter, measure: Measure, kept: str, value: str, time: str) -> None:
    """Write `add` for one measure."""
    with loop.block(f"if {value} is not None:"):
        if not _in_place(measure):
            loop.line(f"{kept} = {loop.bind(measure.add)}({kept}, {value}, {time})")
            return
        if measure.does == "last":
            loop.line(f"{kept} = {value}")
            return
        loop.line(f"g = {kept}")
        if measure.does == "first":
            loop.line(f"if g is None: {kept} = {value}")
        elif measure.does in ("min", "max"):
            sign = "<" if measure.does == "min" else ">"
            loop.line(f"if g is None or {value} {sign} g: {kept} = {value}")
        else:
            _write_total(loop, measure.does == "mean", kept, value)


def _write_total(loop: LoopWriter, mean: bool, kept: str, value: str) -> None:
    """Write how a sum, or the sum of a mean, grows."""
    target = "g[0]" if mean else kept
    loop.line(f"if g is None: {kept} = {f'[{value}, 1]' if mean else value}")
    with loop.block("else:"):
        loop.line(f"h = {'g[0]' if mean else 'g'} + {value}")
        loop.line(f"{target} = h if -{LARGEST} < h < {LARGEST} else float(h)")
        if mean:
            loop.line("g[1] += 1")
