"""Which messages of ours stand in their thread without having been sent: held, waiting, failed, canceled."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from .database import Tx
from .tables.outbox import SUBMISSION
from .tables.threads import MESSAGE


async def unsent(tx: Tx, threads: Sequence[int]) -> dict[int, dict[str, str]]:
    """Thread -> message id -> what became of it instead, in words: `held`, `canceled: denied by Bo: wrong price`,
    `failed (550)`. What a server said is not repeated here, since it goes into prompts.
    """
    S, M = SUBMISSION.c, MESSAGE.c  # noqa: N806
    query = (
        select(M.thread, M.id, S.state, S.code, S.error)
        .join(SUBMISSION, S.message == M.id)
        .where(M.thread.in_(sorted(threads)), S.state != "sent")
        .order_by(M.id)
    )
    found: dict[int, dict[str, str]] = {}
    for thread, message, state, code, error in await tx.execute(query):
        more = f": {error}" if state == "canceled" and error else f" ({code})" if code is not None else ""
        found.setdefault(thread, {})[f"m{message}"] = f"{state}{more}"
    return found
