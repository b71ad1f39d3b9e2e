"""Who may rule over whom: nobody hands on, takes away or acts with what they lack."""

from uuid import UUID

from services.chassis.caller import Caller
from services.chassis.db import Tx
from services.identity.domain.role import LastAdmin, require_within, union
from services.identity.store import role as roles


async def require_rule_over(tx: Tx, caller: Caller, user_id: UUID) -> None:
    """The caller has every permission that the account has, or is its owner. Raises BeyondOwnPermissions."""
    if caller.subject != str(user_id):
        require_within(caller.scope, union(await roles.of(tx, user_id)))


async def require_other_admin(tx: Tx, user_id: UUID) -> None:
    """Raises LastAdmin when nobody would be left who may do everything."""
    if not await roles.is_admin(tx, user_id):
        return
    if not await roles.other_admins(tx, user_id):
        raise LastAdmin
