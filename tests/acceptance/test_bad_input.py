"""What a user can get wrong is one clear sentence, exit code 3, no secret, no traceback, and nothing is lost."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentmail.settings import Account
from tests.servers.postfix import Postfix

from .command import Done, agentmail, environment

LETTER = (
    b"From: Ana Ruiz <ana@example.org>\r\nTo: us@test.local\r\nSubject: Kick-off\r\nMessage-ID: <first@example.org>\r\n"
    b"Date: Mon, 5 Jan 2026 09:00:00 +0000\r\n\r\nCould we do Tuesday?\r\n"
)
SECRET = "correct-horse-battery"


@pytest.fixture
def account(postfix: Postfix) -> Account:
    address = postfix.dovecot.new_user("us", password=SECRET)
    postfix.dovecot.deliver(address, LETTER)
    return postfix.account(address, password=SECRET, timeout=5.0)


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of ours that nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        yield s.getsockname()[1]


def clear(done: Done, *words: str) -> None:
    """One line of error that says these words; nothing else."""
    assert done.code == 3, done
    assert done.out == ""
    assert done.err.startswith("agentmail: ")
    assert done.err.count("\n") == 1, done.err
    assert "Traceback" not in done.err
    assert SECRET not in done.err
    for word in words:
        assert word.casefold() in done.err.casefold(), done.err


async def still_there(account: Account, store: str, cwd: Path) -> None:
    """With the mistake mended, everything goes on as if it had never been made."""
    env = environment(account, store)
    done = await agentmail("sync", "--json", env=env, cwd=cwd)
    assert (done.code, done.err) == (0, "")
    threads = await agentmail("threads", "--all", "--json", env=env, cwd=cwd)
    assert [t["message_ids"] for t in threads.rows] == [["<first@example.org>"]]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"imap_host": "imap.nowhere.invalid"}, ["imap.nowhere.invalid"]),
        ({"imap_port": "closed"}, ["127.0.0.1", "imap_port"]),
        ({"ca_file": None}, ["certificate"]),
        ({"password": "wrong"}, ["password"]),
        ({"imap_security": "plain", "imap_port": "tls"}, []),
    ],
    ids=["host", "refused", "certificate", "password", "security"],
)
async def test_receiving(
    account: Account, closed_port: int, tmp_path: Path, wrong: dict[str, object], words: list[str]
) -> None:
    store = f"sqlite:///{tmp_path / 'store.db'}"
    ports = {"closed": closed_port, "tls": account.imap_port}
    fields = {k: ports.get(str(v), v) for k, v in wrong.items()}
    if "closed" in wrong.values():
        fields["imap_host"] = "127.0.0.1"
    given = {**account.model_dump(), **fields}
    given["password"] = fields.get("password", SECRET)
    clear(await agentmail("sync", env=environment(Account(**given), store), cwd=tmp_path), *words)
    await still_there(account, store, tmp_path)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://me:correct-horse-battery@127.0.0.1:{closed}/agentmail", ["127.0.0.1", "store"]),
        ("postgresql://me:correct-horse-battery@db.nowhere.invalid/agentmail", ["db.nowhere.invalid"]),
        ("mysql://me:correct-horse-battery@localhost/x", ["postgresql://", "sqlite://"]),
        ("agentmail.db", ["agentmail.db", "sqlite:///"]),
        ("sqlite:////no/such/directory/store.db", ["store.db"]),
    ],
    ids=["closed", "nowhere", "mysql", "not a url", "no directory"],
)
async def test_the_store(closed_port: int, tmp_path: Path, url: str, words: list[str]) -> None:
    env = environment(store=url.format(closed=closed_port))
    clear(await agentmail("threads", env=env, cwd=tmp_path), *words)


async def test_a_database_without_the_right_to_it(account: Account, tmp_path: Path, postgres_url: str) -> None:
    gone = postgres_url + "_gone"
    clear(await agentmail("sync", env=environment(account, gone), cwd=tmp_path), "does not exist")
    await still_there(account, postgres_url, tmp_path)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"smtp_port": "closed", "smtp_host": "127.0.0.1"}, ["127.0.0.1", "smtp_port", "kept"]),
        ({"smtp_host": "smtp.nowhere.invalid"}, ["smtp.nowhere.invalid"]),
        ({"smtp_password": "wrong"}, []),
    ],
    ids=["refused", "host", "password"],
)
async def test_a_reply_that_cannot_be_sent_is_kept(
    account: Account, closed_port: int, tmp_path: Path, wrong: dict[str, object], words: list[str]
) -> None:
    """The row stays, can be seen, and no second reply comes of it."""
    store = f"sqlite:///{tmp_path / 'store.db'}"
    await still_there(account, store, tmp_path)
    fields = {k: closed_port if v == "closed" else v for k, v in wrong.items()}
    env = environment(Account(**{**account.model_dump(), "password": SECRET, **fields}), store)
    clear(await agentmail("reply", "t1", "--text", "Yes.", env=env, cwd=tmp_path), *words)
    [thread] = (await agentmail("threads", "--all", "--json", env=env, cwd=tmp_path)).rows
    assert len(thread["message_ids"]) == 2
    outbox = await agentmail("outbox", "list", "--json", env=env, cwd=tmp_path)
    [row] = outbox.rows
    assert row["message_id"] == thread["message_ids"][1]
    assert row["state"] in {"queued", "failed", "held"}


async def test_a_reply_to_what_this_store_does_not_have(account: Account, tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'store.db'}"
    env = environment(account, store)
    for name in ("t1", "m999999999999999999999", "<gone@example.org>", "rubbish\x1b[31m"):
        done = await agentmail("reply", name, "--text", "Yes.", env=env, cwd=tmp_path)
        clear(done)
        assert "\x1b" not in done.err
    await still_there(account, store, tmp_path)


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({}, "AGENTMAIL_ADDRESS"),
        ({"AGENTMAIL_ADDRESS": "us@example.org"}, "imap_host"),
        ({"AGENTMAIL_ADDRESS": "nonsense"}, "address"),
        ({"AGENTMAIL_ADDRESS": "us@gmail.com", "AGENTMAIL_IMAP_PORT": "many"}, "imap_port"),
        ({"AGENTMAIL_ADDRESS": "us@example.org", "AGENTMAIL_IMAP_HOST": "a.example.org", "AGENTMAIL_SMTP_HOST": "b",
          "AGENTMAIL_IMAP_SECURITY": "plain"}, "imap_security"),
    ],
)  # fmt: skip
async def test_settings_that_are_missing_or_wrong(tmp_path: Path, given: dict[str, str], word: str) -> None:
    clear(await agentmail("sync", env=environment(AGENTMAIL_PASSWORD=SECRET, **given), cwd=tmp_path), word)
