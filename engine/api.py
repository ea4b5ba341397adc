"""All that the author of a component imports."""

from engine.codegen import Code
from engine.component import (
    Arrival,
    ChannelSource,
    Component,
    Emit,
    Example,
    Intake,
    Place,
    Problem,
    Pull,
    PulledSource,
    Reader,
    Reply,
    RoutedSource,
    Sink,
    Source,
    Stateful,
    Stateless,
    Writer,
)
from engine.errors import EnvironmentFault, EventFault, MillstreamError, Unavailable, did_you_mean
from engine.event import MICROSECONDS, Event, derived_id, microseconds, moment
from engine.expressions import Expression
from engine.flow import Flow, Node
from engine.frames import Push
from engine.media import MediaStore
from engine.mqtt import MqttSession
from engine.mqtt_codec import Message as MqttMessage
from engine.outside import Outside
from engine.quantities import Duration, Rate, Size, duration_text
from engine.registry import component

__all__ = [
    "MICROSECONDS",
    "Arrival",
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
    "MediaStore",
    "MillstreamError",
    "MqttMessage",
    "MqttSession",
    "Node",
    "Outside",
    "Place",
    "Problem",
    "Pull",
    "PulledSource",
    "Rate",
    "Push",
    "Reader",
    "Reply",
    "RoutedSource",
    "Sink",
    "Size",
    "Source",
    "Stateful",
    "Stateless",
    "Unavailable",
    "Writer",
    "component",
    "derived_id",
    "did_you_mean",
    "duration_text",
    "microseconds",
    "moment",
]
