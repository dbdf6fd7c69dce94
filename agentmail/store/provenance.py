"""Where an attachment came from: whether its very content came in another thread of the mailbox, and not in this one.

Known by its bytes, so that another name or type hides nothing. One byte more does; a person would have to look.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from ..message.models import Attachment
from ..message.parse import parse
from .database import Tx
from .reading import raw_of
from .tables.threads import ATTACHMENT, MESSAGE, RAW

MOST = 20
"""Attachments of the same size that are compared, the newest first: a logo may lie in thousands of messages."""


async def from_elsewhere(tx: Tx, account: str, thread: int | None, attachments: Sequence[Attachment]) -> list[str]:
    """The names of those that somebody sent to this account, but not in this thread."""
    return [a.name for a in attachments if a.content and await _is_elsewhere(tx, account, thread, a.content)]


async def _is_elsewhere(tx: Tx, account: str, thread: int | None, content: bytes) -> bool:
    query = (
        select(ATTACHMENT.c.message, ATTACHMENT.c.position)
        .join(MESSAGE, MESSAGE.c.id == ATTACHMENT.c.message)
        .join(RAW, RAW.c.message == ATTACHMENT.c.message)  # a message may be filed without its bytes
        .where(ATTACHMENT.c.size == len(content), MESSAGE.c.account == account, ~MESSAGE.c.outgoing)
        .order_by(ATTACHMENT.c.id.desc())
        .limit(MOST)
    )
    here = MESSAGE.c.thread == (thread or 0)
    for where, answer in ((here, False), (~here, True)):
        for message, position in (await tx.execute(query.where(where))).all():
            parts = parse(await raw_of(tx, f"m{message}")).attachments
            if position < len(parts) and parts[position].content == content:
                return answer
    return False
