"""All that the author of a component imports."""

from engine.arrival import Arrival, Intake, Pull, Reader, Reply
from engine.arrivals import Arrivals
from engine.bulk import Bulk, bulk
from engine.code_writer import Code, Record, Shape
from engine.component import (
    ChannelSource,
    Component,
    Emit,
    Example,
    Place,
    PulledSource,
    RoutedSource,
    Sink,
    Source,
    Stateful,
    Stateless,
)
from engine.database import transaction, writing_engine
from engine.errors import EnvironmentFault, EventFault, KeyReused, MillstreamError, Unavailable, did_you_mean
from engine.event import MICROSECONDS, Event, derived_id, microseconds, moment
from engine.expression_check import Type
from engine.expressions import Expression
from engine.flow import Flow, Node, unordered
from engine.frames import Push
from engine.loop_writer import Loop, LoopWriter
from engine.media import MediaStore
from engine.mqtt import MqttSession
from engine.mqtt_messages import Messages as MqttMessages
from engine.outside import Outside
from engine.paths import check_path, path_parameters
from engine.problem import Problem, Slow
from engine.quantities import Duration, Rate, Size, duration_text
from engine.refusal import Refusal, busy
from engine.registry import component
from engine.request_body import read_body, read_lines, read_object, read_objects
from engine.row_code import values_encoder
from engine.row_store import Absent, Append, Key, Refused, Row, RowStore, Upsert
from engine.rows import RowValues, row_json
from engine.table import Table
from engine.writer import Mender, Writer

__all__ = [
    "MICROSECONDS",
    "Absent",
    "Append",
    "Arrival",
    "Arrivals",
    "Bulk",
    "ChannelSource",
    "Code",
    "Component",
    "Duration",
    "Emit",
    "EnvironmentFault",
    "Event",
    "EventFault",
    "Example",
    "Expression",
    "Flow",
    "Intake",
    "Key",
    "KeyReused",
    "Loop",
    "LoopWriter",
    "MediaStore",
    "Mender",
    "MillstreamError",
    "MqttMessages",
    "MqttSession",
    "Node",
    "Outside",
    "Place",
    "Problem",
    "Pull",
    "PulledSource",
    "Push",
    "Rate",
    "Reader",
    "Record",
    "Refusal",
    "Refused",
    "Reply",
    "RoutedSource",
    "Row",
    "RowStore",
    "RowValues",
    "Shape",
    "Sink",
    "Size",
    "Slow",
    "Source",
    "Stateful",
    "Stateless",
    "Table",
    "Type",
    "Unavailable",
    "Upsert",
    "Writer",
    "bulk",
    "busy",
    "check_path",
    "component",
    "derived_id",
    "did_you_mean",
    "duration_text",
    "microseconds",
    "moment",
    "path_parameters",
    "read_body",
    "read_lines",
    "read_object",
    "read_objects",
    "row_json",
    "transaction",
    "unordered",
    "values_encoder",
    "writing_engine",
]
