"""Which of our mails a bounce is about. Anybody can write a bounce, so nothing is believed that they could make up.

Two proofs: a Message-ID with our own keyed tag under which we sent lately, or an envelope sender that we gave to one
mail alone (`local+b=tag@domain`, VERP), where the account has plus addressing. Both are told to whoever gets the mail,
so a bounce still counts only for somebody that this mail went to.
"""

from __future__ import annotations

import base64
import hmac
import re

from .message.domains import address_key
from .message.identifiers import is_ours
from .message.models import Message, Outgoing
from .settings import Account
from .store import submissions
from .store.database import Tx
from .store.submissions import Submission

COUNTS_FOR = 14 * 86_400.0
"""Seconds after which a bounce is not believed any more."""

_TAGGED = re.compile(r"[^\s<>@,;:\"()]{1,64}\+b=[a-z2-7]{16}@[^\s<>@,;:\"()]{1,255}")
_DELIVERED_TO = ("delivered-to", "x-original-to", "envelope-to", "x-envelope-to", "to")


def return_path(account: Account, outgoing: Outgoing, secret: bytes) -> str:
    """The envelope sender: the account's own, or one that stands for this mail alone. 64 octets are the limit left of
    the @ (RFC 5321 4.5.3.1.1).
    """
    mail_from = outgoing.envelope.mail_from
    local, _, domain = mail_from.rpartition("@")
    if not account.plus_addressing or address_key(mail_from) != account.key or len(local) > 64 - 19 or '"' in local:
        return mail_from
    mac = hmac.digest(secret, b"return path " + outgoing.message_id.encode(), "sha256")
    return f"{local}+b={base64.b32encode(mac[:10]).decode().lower()}@{domain}"


def addressed_to(message: Message) -> list[str]:
    """The tagged addresses of ours that a message came to, lower case."""
    named = (value.casefold() for name, value in message.headers if name.casefold() in _DELIVERED_TO)
    return list(dict.fromkeys(found for value in named for found in _TAGGED.findall(value[:2_000])))[:10]


async def submission_of(tx: Tx, account: str, bounce: Message, secret: bytes, *, now: float) -> Submission | None:
    """The mail of ours that a bounce is about; None when nothing proves that there is one."""
    since = now - COUNTS_FOR
    if bounce.bounce is not None and bounce.bounce.message_id:
        row = await submissions.sent_under(tx, account, [bounce.bounce.message_id], since=since)
        if row is not None and is_ours(row.message_id, secret):
            return row
    return await submissions.sent_from(tx, account, addressed_to(bounce), since=since)
