"""What a person does with held mail at the command line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from agentmail import Account, Inbox, Policy

from .command import agentmail, environment


async def test_held_mail_is_edited(tmp_path: Path) -> None:
    """Only the person's words go, and an approval of the old ones is refused. For tomorrow: no server is asked."""
    account = Account(
        address="agent@test.local", password="secret", imap_host="127.0.0.1", smtp_host="127.0.0.1", smtp_port=1,
        smtp_security="plain", imap_security="plain",
    )  # fmt: skip
    store = f"sqlite:///{tmp_path / 'store.db'}"
    async with Inbox(account, store=store, policy=Policy(send="hold", programs="checked")) as inbox:
        held = await inbox.send(
            ["ana@test.local"], "offer", "half price", send_at=datetime.now(UTC) + timedelta(days=1)
        )
        assert "held" == held.state
    env = environment(account, store)
    done = await agentmail(
        "outbox", "edit", held.id, "--text", "full price", "--by", "Bo", "--json", env=env, cwd=tmp_path
    )
    [row] = done.rows
    assert (0, "queued", "Bo") == (done.code, row["state"], row["decided_by"])
    shown = await agentmail("outbox", "show", row["id"], env=env, cwd=tmp_path)
    assert "full price" in shown.out
    assert "half price" not in shown.out
    late = await agentmail("outbox", "approve", held.id, "--by", "Bo", env=env, cwd=tmp_path)
    assert late.code != 0
    assert "canceled" in late.err
