"""The append-only log: one row for everything that happened, in the transaction in which it happened."""

from __future__ import annotations

import json
import time
from typing import Any

from .bulk import Insert
from .changes import announce
from .database import Tx
from .tables.threads import EVENT


async def append_event(
    tx: Tx, kind: str, *, thread: int | None = None, message: int | None = None, account: str | None = None,
    data: dict[str, Any] | None = None, at: float | None = None,
) -> None:  # fmt: skip
    """Write one event, and tell those who wait. `kind` is dotted, subject first: `message.filed`, `thread.merged`."""
    await append_events(tx, [{"kind": kind, "thread": thread, "message": message, "account": account, "data": data,
                              "at": at}])  # fmt: skip
    await announce(tx)


async def append_events(tx: Tx, events: list[dict[str, Any]]) -> None:
    """Write many events at once; the keys are the columns of `EVENT`, `at` may be None for now.

    Trap: it tells nobody. Whoever writes many changes more than the log, and announces that once.
    """
    if events:
        now = time.time()
        await _EVENTS.dicts(tx, [
            {**e, "at": now if e.get("at") is None else e["at"], "data": json.dumps(e.get("data"))} for e in events
        ])  # fmt: skip


_EVENTS = Insert(EVENT, [EVENT.c[name] for name in ("at", "kind", "thread", "message", "account", "data")])
