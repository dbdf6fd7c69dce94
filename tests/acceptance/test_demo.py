"""`agentmail demo`: the story is true on both databases, readable everywhere, and its judge cannot be fooled."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from agentmail.message import compose
from agentmail.message.models import Outgoing
from agentmail.testing import demo
from agentmail.testing.people import Person

from .command import agentmail, environment


async def test_it_passes_from_a_directory_with_nothing_in_it(tmp_path: Path) -> None:
    done = await agentmail("demo", env=environment(), cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    assert "One thread in every mail client" in done.out
    assert re.search(r"2 agents in 2 processes, [\d.]+ s\n\Z", done.out)
    assert list(tmp_path.iterdir()) == [], "it leaves nothing behind"


async def test_in_a_pipe_every_header_can_be_found_whole(tmp_path: Path) -> None:
    done = await agentmail("demo", env=environment(COLUMNS="40"), cwd=tmp_path)
    assert "\x1b" not in done.out
    ids = re.findall(r"Message-ID: +(<\S+@\S+>)$", done.out, re.MULTILINE)
    assert len(set(ids)) == 5
    for parent in ids[:2]:
        assert f"{parent} [" in done.out, "it is named by its answers, with its number"
    assert all(done.out.count(who) >= 2 for who in ("triage", "billing", "Ana, in Gmail", "Ana, in Outlook"))


async def test_a_store_of_ones_own_is_kept_and_used_again(tmp_path: Path) -> None:
    """A relative path means the same file to both processes."""
    url = "sqlite:///demo.db"
    for _ in range(2):
        done = await agentmail("demo", "--store", url, env=environment(), cwd=tmp_path)
        assert (done.code, done.err) == (0, "")
    threads = await agentmail("threads", "--json", "--all", "--store", url, env=environment(), cwd=tmp_path)
    assert [len(t["message_ids"]) for t in threads.rows] == [5, 5]


async def test_on_postgresql_too(tmp_path: Path, postgres_url: str) -> None:
    for _ in range(2):
        done = await agentmail("demo", "--store", postgres_url, env=environment(), cwd=tmp_path)
        assert (done.code, done.err) == (0, "")
    threads = await agentmail("threads", "--json", "--all", "--store", postgres_url, env=environment(), cwd=tmp_path)
    assert [len(t["message_ids"]) for t in threads.rows] == [5, 5]


async def test_settings_of_its_user_do_not_reach_it(tmp_path: Path) -> None:
    (tmp_path / "agentmail.toml").write_text('address = "me@example.org"\nimap_host = "imap.example.org"\n')
    (tmp_path / ".env").write_text("AGENTMAIL_SMTP_HOST=smtp.example.org\n")
    done = await agentmail("demo", env=environment(AGENTMAIL_AGENT="somebody"), cwd=tmp_path)
    assert done.code == 0, done.err


async def test_a_database_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    done = await agentmail("demo", "--store", "postgresql://me:hidden@127.0.0.1:9/x", env=environment(), cwd=tmp_path)
    assert done.code == 3
    assert done.err.startswith("agentmail: ")
    assert done.err.count("\n") == 1
    assert "hidden" not in done.err


def play(width: int = 80) -> tuple[int, str]:
    console = Console(
        file=io.StringIO(), width=width, force_terminal=True, color_system=None, highlight=False, markup=False
    )
    code = demo.run(console=console)
    return code, console.file.getvalue()  # type: ignore[attr-defined]


def test_a_narrow_terminal_loses_nothing() -> None:
    code, text = play(width=30)
    assert code == 0
    assert max(map(len, text.splitlines())) <= 30
    whole = re.sub(r"\s", "", text)
    assert len(re.findall(r"Message-ID:<", whole)) == 5
    assert "…" not in text


REFERENCES = re.compile(rb"References:[^\r]*(?:\r\n[ \t][^\r]*)*\r\n")
MESSAGE_ID = re.compile(rb"Message-ID: <[^>]*>")


@pytest.mark.parametrize(
    ("claim", "harm"),
    [
        ("each References chain is complete", lambda raw: REFERENCES.sub(b"", raw, count=1)),
        ("each References chain is complete", lambda raw: re.sub(rb"(References: )<[^>]*>\s*", rb"\1", raw, count=1)),
        ("each subject keeps its base", lambda raw: raw.replace(b"Subject: Re: ", b"Subject: Re: your mail ", 1)),
    ],
    ids=["no references", "root forgotten", "other subject"],
)  # fmt: skip
def test_a_broken_reply_breaks_the_verdict(
    monkeypatch: pytest.MonkeyPatch, claim: str, harm: Callable[[bytes], bytes]
) -> None:
    """The chain is broken on the way out, where no object of ours knows of it: only the mailbox shows it."""
    honest = compose.reply

    def broken(*words: object, **given: object) -> Outgoing:
        outgoing = honest(*words, **given)  # type: ignore[arg-type]
        raw = harm(outgoing.raw)
        assert raw != outgoing.raw
        return outgoing.model_copy(update={"raw": raw, "message_id": re.search(rb"Message-ID: (\S+)", raw)[1].decode()})  # type: ignore[index]

    # triage writes to a person who answers, so the break is there for the whole of the thread
    monkeypatch.setattr(compose, "reply", broken)
    code, text = play()
    assert code == 1
    assert f"BROKEN {claim}" in text
    assert "The thread is broken" in text


@pytest.mark.parametrize(
    ("claim", "pattern", "instead"),
    [
        ("each References chain is complete", REFERENCES, b""),
        ("Message-IDs are unique", MESSAGE_ID, b"Message-ID: <same@demo.local>"),
    ],
)
def test_a_person_whose_client_is_broken_breaks_the_verdict(
    monkeypatch: pytest.MonkeyPatch, claim: str, pattern: re.Pattern[bytes], instead: bytes
) -> None:
    honest = Person.reply
    monkeypatch.setattr(Person, "reply", lambda *w, **g: pattern.sub(instead, honest(*w, **g), count=1))
    code, text = play()
    assert code == 1
    assert f"BROKEN {claim}" in text
