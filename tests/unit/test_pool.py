"""A pool that has no connection to give."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy.exc import TimeoutError as NoneFree

from agentmail.errors import StoreBusy
from agentmail.store.database import Database


async def test_no_free_connection_is_a_busy_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The watchers of many mailboxes wait for it and go on; an error of the driver would end them."""
    db = Database(f"sqlite:///{tmp_path / 'store.db'}")

    def none_free() -> None:
        raise NoneFree("QueuePool limit reached")

    monkeypatch.setattr(db.engine.sync_engine.pool, "connect", none_free)
    with pytest.raises(StoreBusy, match="in use"):
        async with db.read():
            pass
    await db.close()
