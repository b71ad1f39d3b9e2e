"""What happens to one account at the same time neither deadlocks nor leaves it half changed."""

import asyncio
import itertools

from tests.identity.people import PASSWORD, World, outcomes
from weft.identity.v1 import password_pb2, session_pb2, sign_in_pb2, user_pb2


async def test_sign_ins_refreshes_and_revocations_do_not_deadlock(world: World) -> None:
    here = await world.person()
    others = [await world.sign_in() for _ in range(6)]
    revoke = session_pb2.RevokeSessionsRequest(user_id=here.user_id, keep_current=True)
    rename = [
        user_pb2.UpdateUserRequest(user_id=here.user_id, profile=user_pb2.Profile(display_name=f"Ada {n}"))
        for n in range(6)
    ]
    for _ in range(3):
        count, reasons = await outcomes(
            *(world.sign_in() for _ in range(4)),
            *(world.sessions.RevokeSessions(revoke, metadata=here.bearer) for _ in range(4)),
            *(world.users.UpdateUser(request, metadata=here.bearer) for request in rename),
            *(world.sign_in_service.SignOut(sign_in_pb2.SignOutRequest(), metadata=o.bearer) for o in others),
        )
        assert (count, reasons) == (20, set())


async def test_passwords_change_while_sessions_open_and_end(world: World) -> None:
    here = await world.person()
    passwords = [PASSWORD, *(f"analytical engines weave {n}" for n in range(4))]
    for old, new in itertools.pairwise(passwords):
        others = [await world.sign_in(password=old) for _ in range(3)]
        refresh = [sign_in_pb2.RefreshRequest(refresh_token=o.tokens.refresh_token) for o in others]
        change = password_pb2.ChangePasswordRequest(password=old, new_password=new)
        changed, (_, reasons) = await asyncio.gather(
            world.passwords.ChangePassword(change, metadata=here.bearer),
            outcomes(*(world.sign_in_service.Refresh(request) for request in [*refresh, *refresh])),
        )
        assert reasons == {"REFRESH_REFUSED"}
        assert changed == password_pb2.ChangePasswordResponse()
