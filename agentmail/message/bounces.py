"""What a bounce says: which of our mails came back, for whom, and why.

A delivery status notification (RFC 3464) says it in fields. Exim, qmail, Exchange, Yahoo and older servers say it in
prose; then the address, the code and the Message-ID are looked for where those programs write them. Anybody can
write such a mail: nothing here is proof.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Protocol

from pydantic import BaseModel, ConfigDict

from .characters import on_one_line
from .domains import address_key

_MAX_BYTES = 256 * 1024
"""Of a delivery-status part, and of the header block of the returned mail."""
_MAX_TEXT = 32 * 1024
"""Of the prose. What the server has to say stands at the top."""
_MAX_RECIPIENTS = 500
_STATUS_PARTS = frozenset(("message/delivery-status", "message/global-delivery-status"))
_RETURNED_PARTS = frozenset(
    ("text/rfc822-headers", "message/rfc822", "message/rfc822-headers", "message/global", "message/global-headers")
)


class FailedRecipient(BaseModel):
    """One recipient of a delivery status notification (RFC 3464 2.3)."""

    model_config = ConfigDict(frozen=True)

    email: str
    action: str = "failed"
    """failed, delayed, delivered, relayed or expanded."""
    status: str = ""
    """The enhanced status code, such as `5.1.1` (RFC 3463)."""
    diagnostic: str = ""


class Bounce(BaseModel):
    """What a bounce says. Anybody can forge one: believe it only when it names a mail that we sent."""

    model_config = ConfigDict(frozen=True)

    message_id: str | None = None
    """The Message-ID of the mail that came back, with angle brackets."""
    recipients: tuple[FailedRecipient, ...] = ()


class Part(Protocol):
    """What is read of a part: an Attachment, or anything like it."""

    @property
    def content_type(self) -> str: ...
    @property
    def content(self) -> bytes | None: ...


def is_report(part: Part) -> bool:
    """Whether the part is a delivery status."""
    return part.content_type in _STATUS_PARTS


def read(headers: Sequence[tuple[str, str]], parts: Sequence[Part], text: str = "") -> Bounce:
    """Everything the bounce says about the mail that came back; empty fields where it says nothing.

    `text` is the readable body, for the bounces that are prose.
    """
    recipients: dict[str, FailedRecipient] = {}
    message_id: str | None = None
    returned: str | None = None
    for part in parts[:200]:
        kind = part.content_type
        if kind in _STATUS_PARTS:
            status = _decode(part.content)
            for recipient in _reported(status):
                recipients.setdefault(address_key(recipient.email), recipient)
            message_id = message_id or _id_in(_STATUS_ID, status)
        elif kind in _RETURNED_PARTS and returned is None:
            returned = _id_in(_MESSAGE_ID, _header_block(_decode(part.content)))
        elif kind == "text/plain" and not text:
            text = _decode(part.content)
    text = text[:_MAX_TEXT]
    if not recipients:
        for recipient in _told(headers, text):
            recipients.setdefault(address_key(recipient.email), recipient)
    message_id = returned or message_id or _id_in(_MESSAGE_ID, text) or _answered(headers)
    return Bounce(message_id=message_id, recipients=tuple(recipients.values())[:_MAX_RECIPIENTS])


# -- fields (RFC 3464) ------------------------------------------------------------------------------------------------

_ID = r"<[^<>\s\x00-\x1f\x7f-\x9f]{1,900}>"
_MESSAGE_ID = re.compile(rf"^[ \t>]*Message-ID:[ \t]*(?:\n[ \t]+)?({_ID})", re.IGNORECASE | re.MULTILINE)
_STATUS_ID = re.compile(
    rf"^(?:X-Original-Message-ID|Original-Message-ID):[ \t]*(?:\n[ \t]+)?({_ID})",
    re.IGNORECASE | re.MULTILINE,
)
_CODE = re.compile(r"(?<![\d.])([245]\.\d{1,3}\.\d{1,3})(?![\d.]*\d)")
_ACTIONS = frozenset(("failed", "delayed", "delivered", "relayed", "expanded"))


def _decode(content: bytes | None) -> str:
    return (content or b"")[:_MAX_BYTES].decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")


def _header_block(returned: str) -> str:
    return returned.lstrip("\n").partition("\n\n")[0]


def _id_in(pattern: re.Pattern[str], text: str) -> str | None:
    match = pattern.search(text)
    return match[1] if match else None


def _reported(status: str) -> Iterator[FailedRecipient]:
    """One for every block that names a recipient; the first block speaks about the message (RFC 3464 2.1)."""
    for count, block in enumerate(re.split(r"\n[ \t]*\n", status)):
        if count > _MAX_RECIPIENTS:
            return
        fields = _fields(block)
        recipient = fields.get("original-recipient", ""), fields.get("final-recipient", "")
        email = _typed_address(recipient[0]) or _typed_address(recipient[1])
        if not email:
            continue
        action = fields.get("action", "").casefold().split(" ")[0]
        said = fields.get("diagnostic-code", "")
        diagnostic = on_one_line(said.partition(";")[2] or said)
        code = _CODE.search(fields.get("status", ""))
        closer = _CODE.search(diagnostic)
        if closer and (code is None or (code[1].endswith(".0.0") and code[1][0] == closer[1][0])):
            code = closer  # "Status: 5.0.0" beside "550 5.1.1 no such user"
        yield FailedRecipient(
            email=email,
            action=action if action in _ACTIONS else "failed",
            status=code[1] if code else "",
            diagnostic=diagnostic,
        )


def _fields(block: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    name = ""
    for line in block.split("\n")[:200]:
        if line[:1] in (" ", "\t"):
            if name:
                fields[name] = (fields[name] + " " + line.strip())[:4_000]
            continue
        head, colon, value = line.partition(":")
        name = head.strip().casefold() if colon else ""
        if name in fields:
            name = ""
        elif name:
            fields[name] = value.strip()[:4_000]
    return fields


def _typed_address(value: str) -> str:
    """The address of `rfc822; a@b` (RFC 3464 2.3.2) or `utf-8; a\\x{E9}@b` (RFC 6533 3), or ""."""
    kind, semicolon, address = value.partition(";")
    if not semicolon:
        address = kind
    if "\\x{" in address:
        address = re.sub(r"\\x\{([0-9A-Fa-f]{1,5})\}", lambda match: chr(int(match[1], 16)), address[:2_000])
    return _address(address)


def _address(text: str) -> str:
    address = on_one_line(text, 400).strip("<>\"'.,;: ")
    if 3 <= len(address) <= 320 and 0 < address.find("@") < len(address) - 1 and not set(address) & set(' <>",;:()[]'):
        return address
    return ""


# -- prose ------------------------------------------------------------------------------------------------------------

_COPY = re.compile(
    r"^.{0,20}(?:Below this line is a copy|This is a copy of (?:the|your) message|Original message headers|"
    r"Original message follows|Included is a copy|Unsent message below|----- Original message -----|"
    r"Message header follows|Received: )",
    re.IGNORECASE | re.MULTILINE,
)
_ALONE = re.compile(
    r"[ \t]*+(?:To:[ \t]*|-+[ \t]*|Recipient:[ \t]*\[SMTP:)?(<?)"
    r"([^\s<>@:;,()\[\]\"]{1,64}@[^\s<>@:;,()\[\]\"]{1,255}+)(.{0,500})"
)
_SAID = re.compile(
    r"(?:wasn't delivered to|couldn't be delivered to|could not be delivered to|message to|failed to|recipient:?|"
    r"address:?|unknown user:?|user unknown:?|no such user:?|not find user:?)[ \t]+<?"
    r"([^\s<>@:;,()\[\]\"]{1,64}@[^\s<>@:;,()\[\]\"]{1,255})",
    re.IGNORECASE,
)
_FAILED = re.compile(
    r"\b[45]\d\d\b|[45]\.\d{1,3}\.\d{1,3}|fail|reject|unknown|not found|couldn't|could not|does(?:n't| not) exist|"
    r"no such|unable|unavailable|undeliver|over quota|mailbox full|disabled|refused|expired|retry|delay|timed? ?out|"
    r"\bno mx\b|not listed|denied|blocked|invalid|exceed|suspended|inactive|not accept|does not like|"
    r"unbekannt|nicht zugestellt|inconnu|desconocid|desconhecid|sconosciut|onbekend|okänd|ukendt|nieznan|неизвест",
    re.IGNORECASE,
)
_LISTED = re.compile(
    r"(?:following|specified) (?:recipient|address|user)|(?:recipient|address)(?:\(s\)|s|es)? (?:failed|below)|"
    r"(?:not|n't) (?:yet )?(?:been )?delivered(?: to\b)?|undeliverable to|did not (?:reach|receive)|"
    r"(?:folgende|nachstehende)n? (?:empfänger|adresse)|destinataires? suivants?|siguientes? destinatarios?|"
    r"seguintes? destinatários?|seguent[ei] destinatar[ei]|volgende (?:ontvanger|adres)",
    re.IGNORECASE,
)
"""Over a list of addresses that nothing more is said about, as Exchange 2003 and Domino write it."""
_BARE = re.compile(r"[ \t]*<?([^\s<>@:;,()\[\]\"]{1,64}@[^\s<>@:;,()\[\]\"]{1,255})>?[ \t]*")
_SMTP_CODE = re.compile(r"(?<![\d.])([45])\d\d(?![\d.]*\d)")
_DELAYED = re.compile(r"will (?:keep|continue) (?:trying|to)|has been delayed|delayed|not yet|temporar", re.IGNORECASE)


def _told(headers: Sequence[tuple[str, str]], text: str) -> Iterator[FailedRecipient]:
    """The recipients that Exim's X-Failed-Recipients or the prose names, each with what is said beside it."""
    copy = _COPY.search(text)
    prose = text[: copy.start()] if copy else text
    action = "delayed" if _DELAYED.search(prose) and "permanent" not in prose.casefold() else "failed"
    named = [
        address
        for name, value in headers
        if name.casefold() == "x-failed-recipients"
        for address in map(_address, value[:_MAX_BYTES].split(",")[:_MAX_RECIPIENTS])
        if address
    ]
    beside: dict[str, str] = {}
    for address, reason in _addresses_with_reasons(prose):
        beside.setdefault(address, reason)
    for address in named or beside:
        reason = beside.get(address_key(address), "")
        short = on_one_line(reason, 500)
        if len(named or beside) == 1 and not _CODE.search(reason):
            reason += " " + prose  # one recipient: the code may stand anywhere
        yield _failed(address, action, short or on_one_line(prose, 500), reason)
    if named or beside:
        return
    said = _SAID.search(prose)
    if said and _FAILED.search(prose) and (address := _address(said[1])):
        yield _failed(address, action, on_one_line(prose[said.start() :], 500), prose)
        return
    for address in _listed(prose):
        yield _failed(address, action, on_one_line(prose, 500), prose)


def _listed(prose: str) -> list[str]:
    """The addresses, one a line, under the words that somebody did not get the mail."""
    found: list[str] = []
    below = False
    for line in prose.split("\n")[:2_000]:
        match = _BARE.fullmatch(line) if below and len(line) < 400 else None
        if match and (address := _address(match[1])):
            if address not in found:
                found.append(address)
        elif found and line.strip():
            break
        elif not below and len(line) < 400:
            below = _LISTED.search(line) is not None
    return found[:_MAX_RECIPIENTS]


def _failed(address: str, action: str, diagnostic: str, reason: str) -> FailedRecipient:
    code = _CODE.search(reason)
    short = _SMTP_CODE.search(reason)
    status = code[1] if code else f"{short[1]}.0.0" if short else ""
    return FailedRecipient(email=address, action=action, status=status, diagnostic=diagnostic)


def _addresses_with_reasons(prose: str) -> Iterator[tuple[str, str]]:
    """`(address, reason)` for each line that begins with an address and is followed by why it failed."""
    address = ""
    sure = False
    reason: list[str] = []
    for line in [*prose.split("\n")[:2_000], "", ""]:
        match = _ALONE.match(line)
        if match and address and address_key(_address(match[2])) == address_key(address):
            match = None  # Postfix repeats it inside of what the server said
        if match or (not line.strip() and any(map(str.strip, reason))):
            if address and (sure or _FAILED.search(" ".join(reason))):
                yield address_key(address), " ".join(reason)
            address, reason = "", []
        if match and (found := _address(match[2])):
            address = found
            sure = bool(match[1]) and match[3].startswith(">:")  # qmail and its heirs: whatever the reason says
            reason = [match[3].lstrip(">:] \t")]
        elif address and len(reason) < 12:
            reason.append(line)


def _answered(headers: Sequence[tuple[str, str]]) -> str | None:
    """Exchange names the mail that came back in In-Reply-To or References of the report."""
    for wanted in ("in-reply-to", "references"):
        for name, value in headers:
            if name.casefold() == wanted:
                ids = re.findall(_ID, value[:_MAX_BYTES])
                if ids:
                    return str(ids[-1])
    return None
