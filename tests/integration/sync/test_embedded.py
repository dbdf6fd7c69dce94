"""The embedded server of our users' tests is read like any other."""

from __future__ import annotations

from pathlib import Path

from agentmail.mailsync import MailSync
from agentmail.store import ThreadStore
from agentmail.testing import EmbeddedMail

from .conftest import mail


async def test_mail_on_the_embedded_server_comes_in_once(embedded: EmbeddedMail, tmp_path: Path) -> None:
    store = ThreadStore(f"sqlite:///{tmp_path / 'store.db'}")
    account = embedded.account("agent@demo.local")
    sync = MailSync(account, store)
    await embedded.deliver("agent@demo.local", mail(1))
    assert 1 == len(await sync.poll())
    assert 0 == len(await sync.poll())
    await embedded.deliver("agent@demo.local", mail(2))
    assert await sync.wait(10.0)
    assert 1 == len(await sync.poll())
    await sync.file_sent(mail(3), "<3@example.org>")
    await sync.close()
    await store.close()
