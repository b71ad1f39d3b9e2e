"""Roles: named sets of permissions, who has them, and who may hand them on."""

import hashlib
from collections.abc import Iterable, Set
from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from services.chassis.errors import (
    AlreadyExists,
    FailedPrecondition,
    NotFound,
    PermissionDenied,
)
from services.identity.domain.row import Row
from services.identity.domain.token import covers

ADMIN, EVERYONE = "admin", "user"  # Built in, by the first migration, beside `support` and `auditor`.
ROLES_MAX = 500  # All of them are listed in one answer.


class RoleNotFound(NotFound):
    """There is no role {role}."""


class RoleExists(AlreadyExists):
    """There is a role {role} already."""


class RoleBuiltIn(FailedPrecondition):
    """The role {role} comes with the service and stays as it is."""


class RoleOfEveryone(FailedPrecondition):
    """Everyone has the role {role}."""


class TooManyRoles(FailedPrecondition):
    """There are {max} roles already."""


class LastAdmin(FailedPrecondition):
    """The account is the last administrator."""


class BeyondOwnPermissions(PermissionDenied):
    """This takes permissions that the caller lacks, such as {permission}."""


class Role(Row):
    """A name for a set of permissions."""

    __tablename__ = "role"
    role: Mapped[str] = mapped_column(primary_key=True)
    description: Mapped[str]
    permissions: Mapped[list[str]]
    built_in: Mapped[bool]
    updated_at: Mapped[datetime]

    @property
    def etag(self) -> str:
        text = "\n".join([self.role, self.description, *sorted(self.permissions)])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class RoleGrant(Row):
    """That an account has a role. `user` is never written: everyone has it."""

    __tablename__ = "role_grant"
    user_id: Mapped[UUID] = mapped_column(primary_key=True)
    role: Mapped[str] = mapped_column(primary_key=True)
    granted_at: Mapped[datetime]


def union(roles: Iterable[Role]) -> frozenset[str]:
    """What the roles grant together."""
    return frozenset(permission for role in roles for permission in role.permissions)


def require_within(own: Set[str], permissions: Iterable[str]) -> None:
    """Nobody hands on, or rules over, what they lack. Raises BeyondOwnPermissions."""
    for permission in sorted(permissions):
        if not covers(own, permission):
            raise BeyondOwnPermissions(permission=permission)
