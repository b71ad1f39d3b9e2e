"""The main job against the running mesh, as a client would do it: `scripts/weft demo`.

Opens an account by REST, follows the mailed link, signs in by grpc-web in a real browser, enrols a second
factor, signs in again with it, and calls through every door; then checks the audit trail. What it made
stays, to be explored.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import grpc.aio
import httpx
import pyotp

from scripts.journey import Journey, StepFailed, tell, travelling


async def travel(journey: Journey) -> None:
    """Every step, in order, telling each."""
    await journey.register()
    tell(f"1  REST      asked for an account for {journey.email}")
    await journey.confirm()
    tell("2  SMTP      the mail came; its link was followed and the account is open")
    await journey.sign_in_by_browser()
    tell(f"3  grpc-web  signed in on the page /sign-in ({journey.browser})")
    async with journey.watching():
        tell("4  stream    the account's activity, live, while the rest happens")
        codes = await journey.enrol()
        tell(f"5  gRPC      enrolled an authenticator app; {codes} recovery codes")
        await journey.sign_in()
        tell("6  gRPC      signed in again, with the second factor")
        tell(f"7  gRPC      GetMe with the token: {await journey.call_by_grpc()}")
        tell(f"8  REST      GetUser with an API key: {await journey.call_by_rest_with_key()}")
        tell(f"9  outside   GetMe by the betterproto2 client: {await journey.call_by_betterproto()}")
        await journey.seen_live("API_KEY_CREATED")
    about, entries = await journey.verify_trail()
    tell(f"10 audit     the chain of {entries} entries verifies; {about} are about this account")


def explore(journey: Journey) -> None:
    """What is left to look at."""
    uri = pyotp.TOTP(journey.totp_secret).provisioning_uri(name=journey.email, issuer_name="Weft")
    tell(f"\nExplore it: {journey.edge}/sign-in")
    tell(f"  e-mail     {journey.email}\n  password   {journey.password}\n  TOTP       {uri}")
    tell(f"  mailbox    {journey.edge}/mailbox\n  API        {journey.edge}/docs")
    tell(f"  API key    curl --cacert {journey.ca} -H 'x-api-key: {journey.api_key}' \\")
    tell(f"               {journey.edge}/v1/users/{journey.user_id}")


async def main() -> int:
    """Addresses come from the environment that `weft demo` sets."""
    admin = (os.environ["WEFT_ADMIN_EMAIL"], os.environ["WEFT_ADMIN_PASSWORD"])
    async with travelling(os.environ["WEFT_EDGE_URL"], Path(os.environ["WEFT_CA_FILE"]), admin) as journey:
        try:
            await travel(journey)
        except (StepFailed, TimeoutError, httpx.HTTPError, grpc.aio.AioRpcError) as error:
            tell(f"stopped: {type(error).__name__}: {error}")
            return 1
        explore(journey)
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
