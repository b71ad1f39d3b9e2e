"""What a report about a mail says: RFC 3464 delivery status, RFC 5965 complaints, and plain refusals.

Careful by design: an address is only hard-bounced when the report says that the address is at fault.
A mailbox that is full, a message that is too big, a policy or a reputation block are soft: they may
pass. Reports without a machine-readable part are read by their words, and only when a mail system wrote
them.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from enum import StrEnum
from uuid import UUID

from services.notification.mime import MESSAGE_ID

TEXT_CHARS_MAX = 20_000  # A diagnosis stands at the top; what follows is the returned mail.
PARTS_MAX = 50  # A report has three parts.


class Kind(StrEnum):
    """What became of the mail."""

    NONE = "NONE"
    DELIVERED = "DELIVERED"
    DELAYED = "DELAYED"  # Somebody is still trying.
    SOFT = "SOFT"  # This mail failed; the address may take another.
    HARD = "HARD"  # The address will never take mail.
    COMPLAINT = "COMPLAINT"


@dataclass(frozen=True)
class Report:
    """One report, judged."""

    kind: Kind
    status: str  # Enhanced status code (RFC 3463); empty when none was given.
    message_id: UUID | None  # Whose Message-ID the report returns; its mark is not checked here.
    mark: str


# RFC 3463 subject.detail that blame the address whatever else is said: bad mailbox, bad system, bad
# syntax, moved, mailbox disabled, null MX (RFC 7505), no such relay (4.4 is "unable to route").
HARD_DETAILS = {"1.1", "1.2", "1.3", "1.6", "1.10", "2.1", "4.4"}
# Details too general to tell by themselves: other, address, network, delivery not authorised.
VAGUE_DETAILS = {"", "0.0", "1.0", "2.0", "3.0", "4.0", "5.0", "7.0", "7.1", "4.7", "4.1", "3.2", "1.7"}
STATUS = re.compile(r"(?<![\d.])([245])\.(\d{1,3})\.(\d{1,3})(?![\d.])")
REPLY = re.compile(r"(?<![\d.])([45])\d\d[ -]")
NO_SUCH = re.compile(
    r"user (?:is )?unknown|unknown (?:user|address|recipient|local.?part|mailbox|account)"
    r"|no such (?:user|mailbox|address|recipient|account|person|domain)"
    r"|(?:user|account|mailbox|address|recipient|e-?mail)\b.{0,60}?"
    r"(?:does(?: not|n't) exist|not found|could ?n[o']t be found|doesn't have an? .{0,20}account|is invalid)"
    r"|(?:invalid|non-?existent|nonexistent) (?:recipient|mailbox|address|user|account)"
    r"|not? (?:a )?(?:known|valid) (?:user|mailbox|recipient|address)|no mailbox (?:here )?by that name"
    r"|recipient (?:address )?rejected: (?:user|unknown|undeliverable|invalid)|address unknown"
    r"|user not known|not our customer|no valid recipients"
    r"|mailbox (?:is )?(?:unavailable or )?(?:disabled|inactive)"
    r"|account (?:that you tried to reach )?(?:is disabled|has been (?:disabled|suspended))|user is inactive"
    r"|host (?:or domain name )?(?:not found|unknown)|domain (?:name )?(?:not found|unknown)"
    r"|name or service not known"
    r"|unknown host|unrouteable|null mx|unable to resolve|couldn't find any host",
    re.IGNORECASE | re.DOTALL,
)
MAY_PASS = re.compile(
    r"quota|(?:mail ?box|inbox|user|account)\b.{0,30}\bfull|exceed|too (?:large|big|many|old|long)"
    r"|spam|blocked|black ?list|block ?list|reputation|policy|virus|greylist|rate.?limit|throttl|relay|denied"
    r"|try (?:again|later)|temporar|timed? ?out|connection (?:refused|lost)|insufficient|disk"
    r"|not authori[sz]ed",
    re.IGNORECASE | re.DOTALL,
)
STILL_TRYING = re.compile(
    r"warning message only|will be retried|has not yet been delivered|is delayed for more|has been delayed"
    r"|will (?:continue to|keep) try|no action is required",
    re.IGNORECASE,
)
# Where a report in plain text ends and the mail that it returns begins.
RETURNED = re.compile(
    r"^\W*(?:original message(?: follows)?\W*$|below (?:is|this line).{0,20} copy|message headers? follow"
    r"|returned message|this is a copy of the message|return-path:|received:|bounced e-?mail:)",
    re.IGNORECASE | re.MULTILINE,
)
MAIL_SYSTEM = re.compile(
    r"mailer-?daemon|postmaster|mail delivery|mail system|delivery (?:subsystem|status)"
    r"|mail administrator",
    re.IGNORECASE,
)


def read(source: bytes) -> Report:
    """Never raises: whatever cannot be read says nothing."""
    message = message_from_bytes(source)
    kind, status = _judged(message)
    found = MESSAGE_ID.search(source.decode("ascii", "replace"))
    return Report(kind, status, UUID(found[1]) if found else None, found[2] if found else "")


def refused(code: int, status: str, reply: str) -> Kind:
    """The same judgement of what an SMTP server answers at once."""
    if code // 100 == 5:
        return _failure(status or "5.0.0", reply)
    return Kind.SOFT


def _judged(message: Message) -> tuple[Kind, str]:
    recipients = list(_recipients(message))
    if recipients:
        return max(recipients, key=lambda judged: WEIGHT[judged[0]])
    for part in _parts(message):
        if part.get_content_type() == "message/feedback-report":
            abuse = "abuse" in _fields(part).get("feedback-type", "").lower()
            return (Kind.COMPLAINT if abuse else Kind.NONE), ""
    return _by_words(message) if _from_mail_system(message) else (Kind.NONE, "")


WEIGHT = {kind: weight for weight, kind in enumerate(Kind)}


def _recipients(message: Message) -> Iterator[tuple[Kind, str]]:
    """One judgement for each recipient of each delivery-status part."""
    for part in _parts(message):
        if part.get_content_type() not in ("message/delivery-status", "message/global-delivery-status"):
            continue
        payload = part.get_payload()
        blocks = payload if isinstance(payload, list) else []
        for block in (each for each in blocks if isinstance(each, Message)):
            action = _text(block, "Action").lower().split(" ")[0].strip(";")
            status = _status(_text(block, "Status"))
            if action or status:
                yield _recipient(action, status, _text(block, "Diagnostic-Code"))


def _recipient(action: str, status: str, diagnosis: str) -> tuple[Kind, str]:
    """RFC 3464 §2.3.3: failed, delayed, delivered, relayed, expanded."""
    if action in ("delivered", "relayed", "expanded"):
        return Kind.DELIVERED, status
    if action == "delayed":
        return Kind.DELAYED, status
    if status.startswith("4"):
        return Kind.SOFT, status
    if status.startswith("2"):
        return Kind.DELIVERED, status
    precise = status if status.partition(".")[2] not in VAGUE_DETAILS else _status(diagnosis) or status
    return _failure(precise, diagnosis), precise


def _failure(status: str, diagnosis: str) -> Kind:
    """A failure for good: of the address, or of something that may pass?"""
    detail = status.partition(".")[2]
    if detail in HARD_DETAILS and not (detail in ("2.1", "4.4") and MAY_PASS.search(diagnosis)):
        return Kind.HARD
    if detail in VAGUE_DETAILS and NO_SUCH.search(diagnosis):
        return Kind.HARD
    return Kind.SOFT


def _by_words(message: Message) -> tuple[Kind, str]:
    """A report without a delivery-status part."""
    text = RETURNED.split("\n".join(_texts(message)), maxsplit=1)[0][:TEXT_CHARS_MAX]
    status, reply = _status(text), REPLY.search(text)
    if STILL_TRYING.search(text):
        return Kind.DELAYED, status
    if status.startswith("4") or (not status and reply and reply[1] == "4"):
        return Kind.SOFT, status
    if NO_SUCH.search(text) or status.partition(".")[2] in HARD_DETAILS:
        return (Kind.SOFT if MAY_PASS.search(text) and not status else Kind.HARD), status
    if status or reply or MAY_PASS.search(text):
        return Kind.SOFT, status
    return Kind.NONE, ""


def _from_mail_system(message: Message) -> bool:
    """Reports carry the null return path (RFC 5321 §6.1) or a mail system's name."""
    headers = " ".join(_text(message, name) for name in ("From", "Sender", "Subject"))
    automatic = _text(message, "Auto-Submitted").lower().startswith("auto-replied")
    holiday = automatic and not MAIL_SYSTEM.search(_text(message, "From"))
    return not holiday and (_text(message, "Return-Path") == "<>" or bool(MAIL_SYSTEM.search(headers)))


def _parts(message: Message) -> Iterator[Message]:
    """The report's own parts; not those of the mail it returns."""
    if message.get_content_type() == "message/rfc822":
        return
    yield message
    payload = message.get_payload()
    if message.is_multipart() and isinstance(payload, list) and message.get_content_maintype() == "multipart":
        for part in payload[:PARTS_MAX]:
            if isinstance(part, Message):
                yield from _parts(part)


def _texts(message: Message) -> Iterator[str]:
    for part in _parts(message):
        if part.get_content_maintype() == "text" and not part.is_multipart():
            yield _decoded(part)


def _decoded(part: Message) -> str:
    raw = part.get_payload(decode=True)
    if not isinstance(raw, bytes):
        return ""
    try:
        return raw.decode(part.get_content_charset() or "utf-8", "replace")
    except LookupError:
        return raw.decode("latin-1")


def _fields(part: Message) -> dict[str, str]:
    """The fields of a message/feedback-report, which the parser may take as a message or as text."""
    payload = part.get_payload()
    if isinstance(payload, list) and payload and isinstance(payload[0], Message):
        return {name.lower(): str(value) for name, value in payload[0].items()}
    lines = (line.partition(":") for line in _decoded(part).splitlines())
    return {name.strip().lower(): value.strip() for name, colon, value in lines if colon}


def _text(message: Message, name: str) -> str:
    return " ".join(str(message.get(name, "")).split())


def _status(text: str) -> str:
    found = STATUS.search(text)
    return ".".join(found.groups()) if found else ""
