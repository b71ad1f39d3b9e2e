"""weft.identity.v1.UserImportService: accounts taken over, each in a transaction of its own."""

from uuid import UUID

from services.chassis.method import Call
from services.identity.domain import foreign_hash, user as rules
from services.identity.domain.user import EmailTaken, Person
from services.identity.service.registration import open_account, profile_of
from services.identity.service.shared import Shared
from services.identity.store import user as users
from weft.identity.v1 import user_import_pb2 as pb
from weft.identity.v1.events_pb2 import UserOrigin
from weft.identity.v1.user_import_pb2_grpc import UserImportServiceServicer


class UserImports(UserImportServiceServicer):
    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    async def ImportUsers(self, request: pb.ImportUsersRequest, call: Call) -> pb.ImportUsersResponse:
        results = [await self._result(user) for user in request.users]
        return pb.ImportUsersResponse(results=results)

    async def _result(self, user: pb.ImportedUser) -> pb.ImportedUserResult:
        """Idempotent by `user_id`. What is wrong with one account is in its result."""
        try:
            await self._take(user)
        except (rules.EmailRefused, rules.ProfileRefused, EmailTaken, foreign_hash.HashRefused) as refusal:
            return pb.ImportedUserResult(user_id=user.user_id, reason=refusal.reason())
        return pb.ImportedUserResult(user_id=user.user_id)

    async def _take(self, user: pb.ImportedUser) -> None:
        shared, user_id = self._shared, UUID(user.user_id)
        email, profile = rules.checked_email(user.email), profile_of(user.profile)
        if user.password_hash:
            foreign_hash.check(user.password_hash)
        async with shared.db.transaction() as tx:
            free = await users.claim_email(tx, email)  # First: a repeat waits for what it repeats.
            known = await tx.get(Person, user_id)
            if known is not None:
                if known.email_key != rules.email_key(email):
                    raise EmailTaken
                return
            if not free:
                raise EmailTaken
            person = rules.created(user_id, email, profile, shared.clock.now())
            origin = UserOrigin.USER_ORIGIN_IMPORT
            await open_account(tx, shared, person, origin, user.password_hash)
