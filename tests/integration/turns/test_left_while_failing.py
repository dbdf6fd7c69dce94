"""Leaving an inbox whose background work fails at that very moment: its loops do not take that for another failure."""

from __future__ import annotations

import asyncio

import pytest

from agentmail import Account, Inbox, teamwork
from agentmail.errors import StoreUnreachable, Unreachable
from agentmail.mailsync import watching
from agentmail.testing import EmbeddedMail

AGENT = "agent@demo.local"


async def left(account: Account, store: str, began: asyncio.Event) -> None:
    async with asyncio.timeout(20):
        async with Inbox(account, store=store, agent="a") as inbox:
            inbox._attend()
            await began.wait()


@pytest.mark.parametrize("which", ["watch", "listen", "session"])
async def test_who_is_cancelled_while_something_fails_ends(
    which: str, sqlite_url: str, embedded: EmbeddedMail, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = asyncio.Event()

    async def fails(*_: object, **__: object) -> None:
        """The cancellation cuts a connection, and the error of that comes out."""
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise (Unreachable if which == "session" else StoreUnreachable)("the connection was lost") from None

    if which == "watch":
        monkeypatch.setattr(teamwork, "watch", fails)
    elif which == "session":
        monkeypatch.setattr(watching._Watch, "_session", fails)
    else:
        monkeypatch.setattr("agentmail.waits.Waits.listen", fails)
    await left(embedded.account(AGENT), sqlite_url, began)
