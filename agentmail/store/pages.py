"""Pages of messages, newest first, that cost the same wherever they lie and however many messages there are."""

from __future__ import annotations

from sqlalchemy import Select, select, text, tuple_

from ..errors import BadInput, NotFound
from ..message.models import Message
from .database import Tx
from .queries import message_at, place
from .reading import messages_from, number, resolve
from .search import account_mark
from .tables.threads import MESSAGE
from .words import EVERY

_COLUMNS = (MESSAGE.c.id, MESSAGE.c.thread, MESSAGE.c.parsed)


async def page_of_messages(
    tx: Tx, *, thread: str | None, account: str | None, limit: int, after: str | None
) -> list[Message]:
    """Messages of one thread, or of all, by their time. `after` is the last id of the page before."""
    if not 1 <= limit <= 1_000:
        raise BadInput(f"limit is {limit}: a page holds 1 to 1000 messages")
    mark = None
    if after is not None:
        mark = (await tx.execute(select(MESSAGE.c.at, MESSAGE.c.id).where(MESSAGE.c.id == number(after, "m")))).first()
        if mark is None:
            raise NotFound(f"there is no message {after} in this store to go on after")
    if thread is None:
        high = 2**63 - 1 if mark is None else place(mark.at, mark.id)
        ids = await _newest(tx, account, high, limit)
        rows = {row.id: row for row in await tx.execute(select(*_COLUMNS).where(MESSAGE.c.id.in_(ids)))}
        return list(await messages_from(tx, [rows[id_] for id_ in ids]))
    query: Select[tuple[int, int, str]] = select(*_COLUMNS).where(MESSAGE.c.thread == await resolve(tx, thread))
    if mark is not None:
        query = query.where(tuple_(MESSAGE.c.at, MESSAGE.c.id) < tuple_(mark.at, mark.id))
    found = await tx.execute(query.order_by(MESSAGE.c.at.desc(), MESSAGE.c.id.desc()).limit(limit))
    return list(await messages_from(tx, found.all()))


async def _newest(tx: Tx, account: str | None, high: int, limit: int) -> list[int]:
    """Ids of the newest messages before a place, off the index of the search: it is in the order of time already."""
    values = {"high": high, "limit": limit, "account": account}
    if tx.dialect.name == "postgresql":
        whose = "" if account is None else "account = :account AND"
        sql = f"SELECT place FROM search WHERE {whose} place < :high ORDER BY place DESC LIMIT :limit"  # noqa: S608
    else:
        sql = "SELECT rowid FROM search WHERE search MATCH :match AND rowid < :high ORDER BY rowid DESC LIMIT :limit"
        values["match"] = f'"{EVERY if account is None else account_mark(account)}"'
    return [message_at(p) for (p,) in await tx.execute(text(sql), values)]
