"""Which nodes run as one function."""

from engine.load import load_text
from engine.stretches import SOURCES, stretch

FLOW = """
flow: line
sources:
  gate: {http: {post: /gate, allow: anyone}}
  station: {http: {post: /station, allow: anyone}}
operators:
  verdict: {from: station, validate: {result: text}}
  on_line: {from: [gate, verdict], group: {opens: exists(car), as: car_id}}
  rows: {from: on_line, set: {n: 1}}
  defects: {from: [rows, verdict.rejected], where: exists(n)}
  counted: {from: rows, tally: {of: result}}
sinks:
  out: {from: [defects, counted], log: {message: it came}}
"""


def test_a_stretch_ends_at_what_has_memory() -> None:
    flow = load_text(FLOW).raise_findings()
    assert stretch(flow, SOURCES) == ("gate", "station", "verdict", "defects")
    assert stretch(flow, "on_line") == ("rows", "defects")
    assert stretch(flow, "counted") == ()
