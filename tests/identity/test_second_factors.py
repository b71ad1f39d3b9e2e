"""A second factor is asked for once it is confirmed; each of its codes is good once."""

from services.chassis.testing import until
from tests.identity.people import PASSWORD, Person, World, outcomes, refused
from weft.identity.v1 import password_pb2, second_factor_pb2 as pb, sign_in_pb2
from weft.identity.v1.sign_in_pb2 import CompleteSignInRequest as Complete


async def complete(world: World, **proof: str) -> Person:
    response = await world.sign_in_service.CompleteSignIn(Complete(**proof))
    return Person(response.tokens)


async def enrolled(world: World) -> tuple[Person, str, list[str]]:
    """Somebody with an app, at a step where the next code is new."""
    person = await world.person()
    secret, codes = await world.enrol(person)
    world.next_step()
    return person, secret, codes


async def test_sign_in_asks_for_the_code_of_a_confirmed_app(world: World) -> None:
    _, secret, codes = await enrolled(world)
    response = await world.try_sign_in()
    assert response.WhichOneof("outcome") == "second_step"
    kinds = sign_in_pb2.SecondStepKind
    assert list(response.second_step.kinds) == [
        kinds.SECOND_STEP_KIND_TOTP,
        kinds.SECOND_STEP_KIND_RECOVERY_CODE,
    ]
    person = await complete(world, ticket=response.second_step.ticket, totp_code=world.totp(secret))
    caller = world.lab.hosted.tools["identity"].verifier.caller(person.bearer[0][1], "")
    assert caller.subject == person.user_id
    assert len(codes) == 10


async def test_app_that_was_not_confirmed_is_not_asked_for(world: World) -> None:
    person = await world.person()
    await world.factors.EnrollTotp(pb.EnrollTotpRequest(), metadata=person.bearer)
    await world.sign_in()


async def test_enrolment_answers_uri_and_picture_of_it(world: World) -> None:
    person = await world.person()
    answer = await world.factors.EnrollTotp(pb.EnrollTotpRequest(), metadata=person.bearer)
    assert answer.uri.startswith("otpauth://totp/Weft:ada%40")
    assert answer.secret in answer.uri
    assert answer.qr_svg.startswith("<svg")


async def test_code_that_confirmed_the_app_signs_nobody_in(world: World) -> None:
    person = await world.person()
    secret, _ = await world.enrol(person)
    wrong = complete(world, ticket=await world.ticket(), totp_code=world.totp(secret))
    assert await refused(wrong) == "SECOND_STEP_REFUSED"


async def test_one_of_64_parallel_uses_of_a_code_succeeds(world: World) -> None:
    _, secret, _ = await enrolled(world)
    code, tickets = world.totp(secret), [await world.ticket() for _ in range(4)]
    calls = [complete(world, ticket=ticket, totp_code=code) for ticket in tickets for _ in range(16)]
    count, reasons = await outcomes(*calls)
    assert count == 1
    assert reasons <= {"SECOND_STEP_REFUSED", "TICKET_REFUSED"}


async def test_one_of_64_parallel_uses_of_a_recovery_code_succeeds(world: World) -> None:
    _, _, codes = await enrolled(world)
    tickets = [await world.ticket() for _ in range(4)]
    calls = [complete(world, ticket=t, recovery_code=codes[0]) for t in tickets for _ in range(16)]
    count, reasons = await outcomes(*calls)
    assert count == 1
    assert reasons <= {"SECOND_STEP_REFUSED", "TICKET_REFUSED"}


async def test_one_ticket_opens_one_session_whatever_the_codes(world: World) -> None:
    _, secret, codes = await enrolled(world)
    ticket = await world.ticket()
    calls = [complete(world, ticket=ticket, recovery_code=code) for code in codes]
    calls.append(complete(world, ticket=ticket, totp_code=world.totp(secret)))
    count, reasons = await outcomes(*calls)
    assert (count, reasons) == (1, {"TICKET_REFUSED"})


async def test_recovery_code_that_lost_the_race_for_its_ticket_stays_good(world: World) -> None:
    person, _, codes = await enrolled(world)
    ticket = await world.ticket()
    await complete(world, ticket=ticket, recovery_code=codes[0])
    assert await refused(complete(world, ticket=ticket, recovery_code=codes[1])) == "TICKET_REFUSED"
    listed = await world.factors.ListSecondFactors(pb.ListSecondFactorsRequest(), metadata=person.bearer)
    assert listed.recovery_codes_left == 9


async def test_ticket_bears_five_wrong_codes(world: World) -> None:
    _, secret, _ = await enrolled(world)
    ticket = await world.ticket()
    for _ in range(5):
        wrong = complete(world, ticket=ticket, recovery_code="aaaa-bbbb-cccc-dddd")
        assert await refused(wrong) == "SECOND_STEP_REFUSED"
    late = complete(world, ticket=ticket, totp_code=world.totp(secret))
    assert await refused(late) == "TICKET_REFUSED"


async def test_second_step_rests_after_wrong_codes_though_tickets_are_new(world: World) -> None:
    _, secret, _ = await enrolled(world)
    for _ in range(5):
        wrong = complete(world, ticket=await world.ticket(), recovery_code="aaaa-bbbb-cccc-dddd")
        assert await refused(wrong) == "SECOND_STEP_REFUSED"
    right = complete(world, ticket=await world.ticket(), totp_code=world.totp(secret))
    assert await refused(right) == "SECOND_STEP_REFUSED"
    world.clock.advance(31)
    await complete(world, ticket=await world.ticket(), totp_code=world.totp(secret))


async def test_ticket_is_void_after_five_minutes(world: World) -> None:
    _, secret, _ = await enrolled(world)
    ticket = await world.ticket()
    world.clock.advance(301)
    assert await refused(complete(world, ticket=ticket, totp_code=world.totp(secret))) == "TICKET_REFUSED"


async def test_reset_of_the_password_does_not_pass_the_second_factor(world: World) -> None:
    person, secret, _ = await enrolled(world)
    await world.passwords.RequestPasswordReset(password_pb2.RequestPasswordResetRequest(email=world.ada))
    new = "a password of another kind"
    token = await world.token(template="reset_password")
    await world.passwords.ResetPassword(password_pb2.ResetPasswordRequest(token=token, new_password=new))
    ticket = await world.ticket(password=new)
    await complete(world, ticket=ticket, totp_code=world.totp(secret))
    refresh = sign_in_pb2.RefreshRequest(refresh_token=person.tokens.refresh_token)
    assert await refused(world.sign_in_service.Refresh(refresh)) == "REFRESH_REFUSED"


async def test_step_up_asks_for_both(world: World) -> None:
    person, secret, _ = await enrolled(world)
    bare = sign_in_pb2.StepUpRequest(password=PASSWORD)
    step_up = world.sign_in_service.StepUp
    assert await refused(step_up(bare, metadata=person.bearer)) == "SECOND_STEP_REFUSED"
    both = sign_in_pb2.StepUpRequest(password=PASSWORD, totp_code=world.totp(secret))
    await step_up(both, metadata=person.bearer)


async def test_short_password_is_good_beside_a_second_factor_only(world: World) -> None:
    person = await world.person()
    short = password_pb2.ChangePasswordRequest(password=PASSWORD, new_password="ten chars!")
    change = world.passwords.ChangePassword
    assert await refused(change(short, metadata=person.bearer)) == "PASSWORD_REFUSED"
    secret, _ = await world.enrol(person)
    await change(short, metadata=person.bearer)
    world.next_step()
    remove = pb.RemoveTotpRequest(totp_code=world.totp(secret))
    refusal = refused(world.factors.RemoveTotp(remove, metadata=person.bearer))
    assert await refusal == "PASSWORD_TOO_SHORT_ALONE"


async def test_removed_app_is_asked_for_no_more(world: World) -> None:
    person, secret, _ = await enrolled(world)
    remove = pb.RemoveTotpRequest(totp_code=world.totp(secret))
    await world.factors.RemoveTotp(remove, metadata=person.bearer)
    await world.sign_in()
    mail = await world.mail(world.ada, "second_factor_changed", 1)
    assert mail.values["change"] == "totp_disabled"


async def test_second_app_is_refused_while_there_is_one(world: World) -> None:
    person, _, _ = await enrolled(world)
    again = world.factors.EnrollTotp(pb.EnrollTotpRequest(), metadata=person.bearer)
    assert await refused(again) == "TOTP_ENROLLED"


async def test_new_recovery_codes_void_the_old(world: World) -> None:
    person, _, codes = await enrolled(world)
    replace = pb.ReplaceRecoveryCodesRequest()
    new = (await world.factors.ReplaceRecoveryCodes(replace, metadata=person.bearer)).recovery_codes
    old = complete(world, ticket=await world.ticket(), recovery_code=codes[0])
    assert await refused(old) == "SECOND_STEP_REFUSED"
    await complete(world, ticket=await world.ticket(), recovery_code=new[0].upper().replace("-", " "))


async def test_administrator_resets_lost_factors_and_the_sessions_end(world: World) -> None:
    person, _, _ = await enrolled(world)
    admin = await world.admin()
    reset = pb.ResetSecondFactorsRequest(user_id=person.user_id)
    await world.factors.ResetSecondFactors(reset, metadata=admin.bearer)
    refresh = sign_in_pb2.RefreshRequest(refresh_token=person.tokens.refresh_token)
    assert await refused(world.sign_in_service.Refresh(refresh)) == "REFRESH_REFUSED"
    await world.sign_in()


async def test_secret_of_an_app_is_sealed_in_the_database(world: World) -> None:
    person, secret, codes = await enrolled(world)
    rows = await world.lab.db("identity").fetch("select t::text from totp t")
    rows += await world.lab.db("identity").fetch("select t::text from recovery_code t")
    text = "\n".join(row[0] for row in rows) + str(await _bytes(world, person))
    assert secret not in text
    assert not any(code in text for code in codes)


async def _bytes(world: World, person: Person) -> bytes:
    async def there() -> bytes:
        value = await world.lab.db("identity").fetchval(
            "select sealed from totp where user_id = $1::text::uuid", person.user_id
        )
        return bytes(value)

    found: bytes = await until(there)
    return found
