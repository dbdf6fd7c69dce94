"""Our own mail under an id that a provider gave it: which of our messages it is.

Exchange, SES and others write a Message-ID of their own on the way out. People answer to that one, so whoever reads
the Sent mailbox learns it as an alias. Only mail from there is asked about: what an outsider says proves nothing.
"""

from __future__ import annotations

import hmac
import re

from sqlalchemy import select

from ..message.identifiers import find_ids, is_ours
from ..message.models import Message
from .arrivals import Prepared, content_key
from .database import Tx
from .tables.threads import MESSAGE, WITH_SUBJECT

ORIGINALS = ("x-microsoft-original-message-id", "x-google-original-message-id", "x-original-message-id")
"""Headers in which providers keep the id that they replaced."""
_MARK = re.compile(r"([0-9a-f]{20});\s*hop=(\d{1,4})")


async def original_of(tx: Tx, prepared: Prepared, secret: bytes) -> tuple[int, int] | None:
    """Our stored `(message, thread)` that this copy out of Sent is; None when it is another one.

    It is ours when it names our id in one of `ORIGINALS`, or carries our mark over that id (X-Agentmail-Loop), or says
    the same to the last word at the same second.
    """
    message, row = prepared.arrival.message, prepared.row
    if not prepared.arrival.outgoing or (message.message_id and is_ours(message.message_id, secret)):
        return None
    columns = (MESSAGE.c.id, MESSAGE.c.thread, MESSAGE.c.own_key, MESSAGE.c.content_key)
    named = [one for name in ORIGINALS for one in find_ids(message.header(name) or "", "own").ids]
    ours = [one for one in named if is_ours(one, secret)]
    if ours:
        query = select(*columns).where(MESSAGE.c.account == row["account"], MESSAGE.c.own_key.in_(ours))
        if (found := (await tx.execute(query)).first()) is not None:
            return found.id, found.thread
    at = MESSAGE.c.at
    near = select(*columns).where(
        MESSAGE.c.account == row["account"], MESSAGE.c.subject_key == row["subject_key"],
        MESSAGE.c.own_key.is_not(None), at >= row["at"] - 1.0, at <= row["at"] + 1.0,
    )  # fmt: skip
    if row["subject_key"]:
        near = near.where(WITH_SUBJECT)
    for found in await tx.execute(near):
        same = message.model_copy(update={"message_id": found.own_key})
        if _marked(message, found.own_key, secret) or content_key(same) == found.content_key:
            return found.id, found.thread
    return None


def _marked(message: Message, message_id: str, secret: bytes) -> bool:
    """Whether it carries the mark that `compose` made over this id."""
    mark = _MARK.match(message.header("x-agentmail-loop") or "")
    if mark is None:
        return False
    tag = hmac.digest(secret, f"{message_id};{mark[2]}".encode(), "sha256").hex()[:20]
    return hmac.compare_digest(tag, mark[1])
