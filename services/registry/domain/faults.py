"""Faults, as the filter of Envoy and of gRPC's own client takes them, route by route."""

from __future__ import annotations

from datetime import timedelta

from google.protobuf.any_pb2 import Any as Packed

from envoy.extensions.filters.common.fault.v3.fault_pb2 import FaultDelay
from envoy.extensions.filters.http.fault.v3.fault_pb2 import FaultAbort, HTTPFault
from envoy.type.v3.percent_pb2 import FractionalPercent
from services.registry.domain.resource import packed
from services.registry.domain.rules import Fault

FILTER = "envoy.filters.http.fault"


def none() -> Packed:
    """What the filter does where no route says otherwise."""
    return packed(HTTPFault())


def config(fault: Fault) -> Packed:
    share = FractionalPercent(numerator=fault.share, denominator=FractionalPercent.TEN_THOUSAND)
    made = HTTPFault()
    if fault.delay_s:
        delay = FaultDelay(fixed_delay=timedelta(seconds=fault.delay_s), percentage=share)
        made.delay.CopyFrom(delay)
    if fault.code:
        made.abort.CopyFrom(FaultAbort(grpc_status=fault.code, percentage=share))
    return packed(made)
