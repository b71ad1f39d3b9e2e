"""HTTP statuses that a service chooses: OAuth's answers are JSON of their own with 400 or 401.

A gRPC call that fails becomes google.rpc.Status as JSON, so such an answer is a good one with a raw body,
whose initial metadata names the status. Only routes whose answer is raw look for it.
"""

from __future__ import annotations

from google.api.http_pb2 import HttpRule
from google.protobuf.descriptor import Descriptor, MethodDescriptor

from . import cache
from .wire import Json, lua, with_filters

FILTER = "weft.lua.status"
RAW = "google.api.HttpBody"


def filter_() -> Json:
    """Before the transcoder, so that it sees what that one made."""
    return cache.lua_filter(FILTER, "status")


def chosen(route: Json) -> Json:
    """The route, with the status that its service names."""
    return with_filters(route, lua(FILTER, "status"))


def raw_response(method: MethodDescriptor, rule: HttpRule) -> bool:
    """Whether a REST answer of the method is its google.api.HttpBody as it is."""
    answer: Descriptor | None = method.output_type
    if rule.response_body:
        answer = method.output_type.fields_by_name[rule.response_body].message_type
    return answer is not None and answer.full_name == RAW
