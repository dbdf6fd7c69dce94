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


async def test_who_stopped_the_mail_and_why_is_said_where_it_waits(tmp_path: Path) -> None:
    """A row that waits for its turn and one that a person stopped look the same, and only one goes by itself."""
    account = Account(
        address="agent@test.local", password="secret", imap_host="127.0.0.1", smtp_host="127.0.0.1", smtp_port=1,
        smtp_security="plain", imap_security="plain",
    )  # fmt: skip
    env = environment(account, f"sqlite:///{tmp_path / 'store.db'}")
    paused = await agentmail("outbox", "pause", "holiday", "--by", "Bo", env=env, cwd=tmp_path)
    assert (0, True) == (paused.code, "nothing of agent@test.local leaves until" in paused.out)
    sent = await agentmail("send", "ana@test.local", "-s", "offer", "-t", "hello", env=env, cwd=tmp_path)
    assert (0, True) == (sent.code, sent.out.startswith("o1 queued"))
    assert "paused (operator): holiday" in sent.err
    listed = await agentmail("outbox", "--json", env=env, cwd=tmp_path)
    assert [row["id"] for row in listed.rows] == ["o1"]
    assert "paused (operator): holiday" in listed.err
    neither = await agentmail("outbox", "resolve", "o1", env=env, cwd=tmp_path)
    assert (2, True) == (neither.code, "--sent or --not-sent" in neither.err)
    canceled = await agentmail("outbox", "cancel", "o1", "--by", "Bo", env=env, cwd=tmp_path)
    assert (0, "o1 canceled: canceled by Bo\n") == (canceled.code, canceled.out)
    assert (0, "resumed\n") == (await agentmail("outbox", "resume", env=env, cwd=tmp_path))[:2]
    assert (1, "nothing was paused\n") == (await agentmail("outbox", "resume", env=env, cwd=tmp_path))[::2]
