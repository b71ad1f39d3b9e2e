"""Who may call a method: its `(weft.options.v1.access)` option, compiled once, checked at each call."""

from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import MethodDescriptor

from services.chassis.caller import (
    ACCOUNT,
    OPERATOR,
    Caller,
    ImpersonationRefused,
    MeshOnly,
    NotACaller,
    NotPermitted,
    PersonRequired,
    SignInRequired,
    StepUpRequired,
)
from weft.options.v1 import options_pb2

EVERY_SERVICE = "*"
SERVICE_CHARS_MAX = 63  # Of a name that is shown: who has the mesh's key may call itself anything.


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
    callers: frozenset[str] = frozenset()  # Services that may call without a person.
    rpc: str = ""  # As refusals name it: `weft.cart.v1.CartService/GetCart`.

    def check(self, caller: Caller, request: Any, now: float) -> None:
        """Raises a refusal; `now` is Unix seconds, `request` None when requests are a stream."""
        if self.internal:
            self._check_service(caller.via)
            return
        if self.public:
            return
        if not caller.subject:
            raise SignInRequired
        if caller.kind == "service" and caller.via != OPERATOR:
            self._check_service(caller.via)
        if not self._grants(caller, request):
            raise NotPermitted(permission=self.permission or ACCOUNT)
        if self.in_person:
            _require_person(caller)
        if self.fresh_s and caller.kind != "service" and now - caller.auth_time > self.fresh_s:
            raise StepUpRequired(seconds=int(self.fresh_s))

    def _check_service(self, name: str) -> None:
        """Raises MeshOnly, NotACaller."""
        if not name:
            raise MeshOnly
        if name not in self.callers and EVERY_SERVICE not in self.callers:
            raise NotACaller(caller=name[:SERVICE_CHARS_MAX], rpc=self.rpc)

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
    if kind is None or not getattr(option, kind) or (option.internal and not option.callers):
        raise AccessUndeclared(method.full_name)
    service = method.containing_service.full_name
    return Rule(
        public=option.public,
        internal=option.internal,
        permission=option.permission,
        own_field=option.own_field,
        fresh_s=option.fresh.ToMilliseconds() / 1000,
        in_person=option.in_person,
        callers=frozenset({*option.callers, service.split(".")[1]}),
        rpc=f"{service}/{method.name}",
    )
