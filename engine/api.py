"""All that the author of a component imports."""

from engine import (
    alert_desk,
    alert_levels,
    alert_machine,
    control_charts,
    field_paths,
    file_formats,
    file_leaving,
    file_reading,
    file_store,
    file_watch,
    line_protocol,
    measure,
    measures_many,
    notices,
    outgoing,
    parquet_file,
    socket_frames,
    text_formats,
    units,
    webhooks,
    window_loop,
    window_runs,
    window_shapes,
    windows,
)
from engine.arrival import Arrival, Intake, Pull, Reader, Reply
from engine.arrivals import Arrivals
from engine.asking import Asked, Asking, Breaker, Indivisible, NoAnswer, Question, Retry, Terms
from engine.client_socket import ClientSocket
from engine.code_writer import Code, Record, Shape
from engine.coercion import COERCIONS
from engine.component import (
    ChannelSource,
    Component,
    Emit,
    Example,
    Place,
    PulledSource,
    RoutedSource,
    Sink,
    SocketSource,
    Source,
    Stateful,
    Stateless,
)
from engine.database import open_database, transaction, writing_engine
from engine.errors import EnvironmentFault, EventFault, KeyReused, MillstreamError, Unavailable, did_you_mean
from engine.event import MICROSECONDS, Event, derived_id, microseconds, moment
from engine.expression_check import ANY, Type
from engine.expressions import Expression, ExpressionFault
from engine.field_checks import unfit_columns, unknown_fields
from engine.field_rule import Rule, Unfit, clean_fields
from engine.flow import Flow, Node, unordered
from engine.frames import Push
from engine.functions_text import compile_pattern
from engine.functions_time import zone_of
from engine.given import GivenAnswer
from engine.http_client import JSON, HttpAnswer, HttpClient, beginning
from engine.live_table import LiveTable
from engine.loop_writer import Loop, LoopWriter
from engine.measured import measured, whole
from engine.media import MediaStore
from engine.mqtt import MqttSession
from engine.mqtt_address import MqttAddress
from engine.mqtt_broker import MqttBroker
from engine.mqtt_messages import Messages as MqttMessages
from engine.mqtt_messages import MqttBatch, MqttPart
from engine.mqtt_outbox import PublishRefused
from engine.option_expressions import option_expressions
from engine.outside import Outside
from engine.pace import Pace, Senders
from engine.paths import check_path, path_parameters
from engine.placeholders import Placeholders
from engine.problem import Problem, Slow
from engine.quantities import Duration, Rate, Size, duration_text, parse_duration
from engine.reach import Reach
from engine.refusal import Refusal, busy
from engine.registry import component
from engine.request_body import read_body, read_lines, read_object, read_objects
from engine.settings import MqttPlace, read_environment
from engine.shift_times import ShiftTimes
from engine.spill import Spill
from engine.sql_mender import AppendMender, UpsertMender
from engine.sql_writer import SqlWriter
from engine.table import Table
from engine.tallies import part_of
from engine.templating import Template, TemplateFault
from engine.text_checks import TEXT_CHECKS
from engine.topic_filters import Filters, subscriptions
from engine.topic_levels import check_pattern, filter_of, level_names
from engine.writer import Mender, Writer

__all__ = [
    "ANY",
    "COERCIONS",
    "JSON",
    "MICROSECONDS",
    "TEXT_CHECKS",
    "AppendMender",
    "Arrival",
    "Arrivals",
    "Asked",
    "Asking",
    "Breaker",
    "ChannelSource",
    "ClientSocket",
    "Code",
    "Component",
    "Duration",
    "Emit",
    "EnvironmentFault",
    "Event",
    "EventFault",
    "Example",
    "Expression",
    "ExpressionFault",
    "Filters",
    "Flow",
    "GivenAnswer",
    "HttpAnswer",
    "HttpClient",
    "Indivisible",
    "Intake",
    "KeyReused",
    "LiveTable",
    "Loop",
    "LoopWriter",
    "MediaStore",
    "Mender",
    "MillstreamError",
    "MqttAddress",
    "MqttBatch",
    "MqttBroker",
    "MqttMessages",
    "MqttPart",
    "MqttPlace",
    "MqttSession",
    "NoAnswer",
    "Node",
    "Outside",
    "Pace",
    "Place",
    "Placeholders",
    "Problem",
    "PublishRefused",
    "Pull",
    "PulledSource",
    "Push",
    "Question",
    "Rate",
    "Reach",
    "Reader",
    "Record",
    "Refusal",
    "Reply",
    "Retry",
    "RoutedSource",
    "Rule",
    "Senders",
    "Shape",
    "ShiftTimes",
    "Sink",
    "Size",
    "Slow",
    "SocketSource",
    "Source",
    "Spill",
    "SqlWriter",
    "Stateful",
    "Stateless",
    "Table",
    "Template",
    "TemplateFault",
    "Terms",
    "Type",
    "Unavailable",
    "Unfit",
    "UpsertMender",
    "Writer",
    "alert_desk",
    "alert_levels",
    "alert_machine",
    "beginning",
    "busy",
    "check_path",
    "check_pattern",
    "clean_fields",
    "compile_pattern",
    "component",
    "control_charts",
    "derived_id",
    "did_you_mean",
    "duration_text",
    "field_paths",
    "file_formats",
    "file_leaving",
    "file_reading",
    "file_store",
    "file_watch",
    "filter_of",
    "level_names",
    "line_protocol",
    "measure",
    "measured",
    "measures_many",
    "microseconds",
    "moment",
    "notices",
    "open_database",
    "option_expressions",
    "outgoing",
    "parquet_file",
    "parse_duration",
    "part_of",
    "path_parameters",
    "read_body",
    "read_environment",
    "read_lines",
    "read_object",
    "read_objects",
    "socket_frames",
    "subscriptions",
    "text_formats",
    "transaction",
    "unfit_columns",
    "units",
    "unknown_fields",
    "unordered",
    "webhooks",
    "whole",
    "window_loop",
    "window_runs",
    "window_shapes",
    "windows",
    "writing_engine",
    "zone_of",
]
