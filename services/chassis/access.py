"""Who may call a method: its `(weft.options.v1.access)` option, compiled once, checked at each call."""

from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import MethodDescriptor

from services.chassis.caller import (
    ACCOUNT,
    Caller,
    ImpersonationRefused,
    MeshOnly,
    NotPermitted,
    PersonRequired,
    SignInRequired,
    StepUpRequired,
)
from weft.options.v1 import options_pb2


class AccessUndeclared(Exception):
    """A method says nothing about who may call it. The process does not start (fail closed)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """The access option of one method."""

    public: bool = False
    internal: bool = False
    permission: str = ""
    own_field: str = ""
    fresh_s: float = 0.0  # 0: any age.
    in_person: bool = False

    def check(self, caller: Caller, request: Any, now: float) -> None:
        """Raises a refusal; `now` is Unix seconds, `request` None when requests are a stream."""
        if self.internal:
            if not caller.via:
                raise MeshOnly
            return
        if self.public:
            return
        if not caller.subject:
            raise SignInRequired
        if not self._grants(caller, request):
            raise NotPermitted(permission=self.permission or ACCOUNT)
        if self.in_person:
            _require_person(caller)
        if self.fresh_s and caller.kind != "service" and now - caller.auth_time > self.fresh_s:
            raise StepUpRequired(seconds=int(self.fresh_s))

    def _grants(self, caller: Caller, request: Any) -> bool:
        if not self.permission:
            return caller.whole
        return caller.can(self.permission) or self._owns(caller, request)

    def _owns(self, caller: Caller, request: Any) -> bool:
        return (
            bool(self.own_field)
            and caller.kind != "service"
            and caller.whole
            and getattr(request, self.own_field) == caller.subject
        )


def _require_person(caller: Caller) -> None:
    """Raises ImpersonationRefused, PersonRequired."""
    if caller.acting:
        raise ImpersonationRefused
    if not caller.first_party:
        raise PersonRequired


OPEN = Rule(public=True)


def rule(method: MethodDescriptor) -> Rule:
    """Compiles the option. Raises AccessUndeclared."""
    if not method.containing_service.full_name.startswith("weft."):
        return OPEN  # Health and reflection: the edge routes neither.
    option = method.GetOptions().Extensions[options_pb2.access]
    kind = option.WhichOneof("rule")
    if kind is None or not getattr(option, kind):
        raise AccessUndeclared(method.full_name)
    return Rule(
        public=option.public,
        internal=option.internal,
        permission=option.permission,
        own_field=option.own_field,
        fresh_s=option.fresh.ToMilliseconds() / 1000,
        in_person=option.in_person,
    )
