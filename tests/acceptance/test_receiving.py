"""`agentmail check` and `agentmail sync` as a user runs them, against real servers."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from agentmail.imap import ImapConnection
from agentmail.settings import Account
from tests.integration.sync.conftest import mail
from tests.servers.dovecot import Dovecot
from tests.servers.postfix import Postfix

from .command import agentmail, environment


async def test_check_says_what_the_account_can_do_and_whether_mail_arrives(
    mail_account: Account, tmp_path: Path
) -> None:
    env = environment(mail_account, store=f"sqlite:///{tmp_path / 'store.db'}")
    done = await agentmail("check", env=env, cwd=tmp_path)
    assert 0 == done.code, done
    for words in ("✓ IMAP", "tells of new mail at once", "Sent (sent)", "✓ SMTP", "– mail", "--send", "✓ clock"):
        assert words in done.out
    done = await agentmail("check", "--send", "--json", env=env, cwd=tmp_path)
    steps = {row["step"]: row for row in done.rows}
    assert {"store", "IMAP", "SMTP", "mail", "clock"} == set(steps)
    assert all(row["ok"] for row in steps.values())
    assert "QRESYNC" in steps["IMAP"]["capabilities"]
    assert steps["mail"]["seconds"] >= 0
    assert {"name": "INBOX", "role": "inbox"} in steps["IMAP"]["mailboxes"]
    assert 0 == steps["IMAP"]["messages"]
    assert abs(steps["clock"]["server"]) < 60
    assert "problem" not in steps["clock"]
    # No agent is asked to answer the test mails.
    done = await agentmail("sync", "--json", env=env, cwd=tmp_path)
    done = await agentmail("threads", "--json", env=env, cwd=tmp_path)
    assert {"idle"} == {row["attention"] for row in done.rows}


async def test_check_says_what_is_wrong_and_how_to_mend_it(postfix: Postfix, tmp_path: Path) -> None:
    account = postfix.account(postfix.dovecot.new_user("wrong"))
    broken = account.model_copy(update={"password": type(account.password)("no"), "smtp_port": 9})  # type: ignore[misc, call-arg]
    env = environment(broken, store=f"sqlite:///{tmp_path / 'store.db'}")
    done = await agentmail("check", env=env, cwd=tmp_path)
    assert 3 == done.code
    for words in ("✓ store", "✗ IMAP", "app password", "✗ SMTP", "check smtp_host and smtp_port"):
        assert words in done.out


async def test_sync_leaves_old_mail_says_so_and_fetches_it_when_asked(dovecot: Dovecot, tmp_path: Path) -> None:
    user = dovecot.new_user("old")
    account = dovecot.account(user)
    connection = ImapConnection(account)
    await connection.connect()
    for n in range(1, 11):
        await connection.append("INBOX", mail(n), at=datetime(2026, 1, 5, tzinfo=UTC))
    await connection.close()
    env = environment(account, store=f"sqlite:///{tmp_path / 'store.db'}")
    done = await agentmail("sync", "--history", "3", env=env, cwd=tmp_path)
    assert 0 == done.code, done
    assert "7 older messages of INBOX left on the server" in done.out
    for words, filed in ((("sync", "--json"), 0), (("sync", "--all", "--json"), 7), (("sync", "--all", "--json"), 0)):
        done = await agentmail(*words, env=env, cwd=tmp_path)
        assert filed == done.rows[-1]["new"], done
    done = await agentmail("sync", "--all", "--since", "2026-01-01", env=env, cwd=tmp_path)
    assert 2 == done.code
