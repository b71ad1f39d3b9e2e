"""VIES, the Union's register of VAT numbers, by its REST interface.

It asks the member's own register while the caller waits, so it fails often and in many ways. Every one of
them leaves the number unconfirmed: a fault of VIES says nothing about the number.
"""

import asyncio
import json
import logging
import ssl
from collections.abc import Mapping
from typing import Any, Protocol

import httpx

from services.billing.domain.tax import NumberState
from services.billing.domain.tax_number import Answer, Number, Why, number
from services.billing.tax_settings import TaxSettings

BODY_BYTES_MAX = 64 * 1024  # An answer is about a kilobyte; more is no answer.
TEXT_CHARS_MAX = 1_000  # Of a name or an address.
UNTOLD = "---"  # What VIES writes where a member tells nobody.

log = logging.getLogger("weft.billing.vies")


class Register(Protocol):
    """Who knows which numbers are given out."""

    async def ask(self, of: Number) -> Answer:
        """Does not raise: a register that fails leaves the number UNCONFIRMED, with how it failed."""
        ...


class Vies:
    """The register of the Union."""

    def __init__(self, settings: TaxSettings) -> None:
        self._url = settings.vies_url.rstrip("/")
        self._requester = number(settings.vies_requester) if settings.vies_requester else None
        self._timeout_s, self._tls = settings.vies_timeout_s, ssl.create_default_context()

    async def ask(self, of: Number) -> Answer:
        if not self._url:
            return Answer(state=NumberState.UNCONFIRMED, reason=Why.NOT_ASKED)
        try:
            status, said = await self._post(of)
        except (TimeoutError, httpx.TimeoutException):
            return _failed("TIMEOUT")
        except (httpx.HTTPError, OSError) as error:
            log.warning("VIES cannot be reached: %s", type(error).__name__)
            return _failed("UNREACHABLE")
        except ValueError:
            return _failed("UNREADABLE")
        return _answer(status, said, of)

    async def _post(self, of: Number) -> tuple[int, Any]:
        """The status and the JSON. Raises httpx.HTTPError, OSError, ValueError."""
        body = {"countryCode": of.prefix, "vatNumber": of.local}
        if self._requester:
            body |= {
                "requesterMemberStateCode": self._requester.prefix,
                "requesterNumber": self._requester.local,
            }
        read, url = bytearray(), f"{self._url}/check-vat-number"
        client = httpx.AsyncClient(verify=self._tls, timeout=self._timeout_s, trust_env=False)
        async with asyncio.timeout(self._timeout_s), client, client.stream("POST", url, json=body) as answer:
            async for chunk in answer.aiter_bytes():
                read += chunk
                if len(read) > BODY_BYTES_MAX:
                    raise ValueError("no answer is so long")
        return answer.status_code, json.loads(read)


def _answer(status: int, said: Any, of: Number) -> Answer:
    """What VIES said; UNCONFIRMED unless it says plainly that it looked, and for this number."""
    if not isinstance(said, Mapping):
        return _failed("UNREADABLE")
    if fault := _fault(said):
        return _failed(fault)
    if status != httpx.codes.OK:
        return _failed(f"HTTP_{status}")
    if not isinstance(said.get("valid"), bool) or not _same(said, of):
        return _failed("UNREADABLE")
    valid = said["valid"]
    return Answer(
        state=NumberState.VALID if valid else NumberState.INVALID,
        reason="" if valid else Why.NOT_REGISTERED,
        consultation_number=_text(said, "requestIdentifier"),
        trader_name=_text(said, "name"),
        trader_address=_text(said, "address"),
    )


def _fault(said: Mapping[str, Any]) -> str:
    """The error that VIES names, in any of its two shapes; empty: it names none.

    `userError` is VALID or INVALID where VIES looked; else it is the error, beside a `valid` of false.
    """
    wrapped = said.get("errorWrappers")
    if isinstance(wrapped, list) and wrapped and isinstance(wrapped[0], Mapping):
        return _text(wrapped[0], "error") or "UNREADABLE"
    if said.get("actionSucceed") is False:
        return "UNREADABLE"
    told = _text(said, "userError")
    return "" if told in ("", "VALID", "INVALID") else told


def _same(said: Mapping[str, Any], of: Number) -> bool:
    """It answers about the number that was asked for; what it does not repeat it does not contradict."""
    told = (said.get("countryCode") or of.prefix, said.get("vatNumber") or of.local)
    return told == (of.prefix, of.local)


def _failed(reason: str) -> Answer:
    return Answer(state=NumberState.UNCONFIRMED, reason=reason[:64])


def _text(said: Mapping[str, Any], name: str) -> str:
    told = said.get(name)
    return told.strip()[:TEXT_CHARS_MAX] if isinstance(told, str) and told.strip() != UNTOLD else ""
