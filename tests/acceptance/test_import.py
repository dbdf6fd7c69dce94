"""`agentmail import` as a user runs it: every kind of archive, twice, and killed."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import signal
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from agentmail.archive import import_archive, importing, reading_ahead
from agentmail.store import ThreadStore
from bench.corpus import Mail, generate
from tests.waiting import PATIENCE, alive, until

from .command import COMMAND, Done, agentmail, environment, start

MAIL = list(generate(300, seed=11, small=True))
forks = pytest.mark.skipif(sys.platform != "linux", reason="needs fork, and Linux's /proc to see a child")
KEYS = {"messages", "filed", "duplicates", "threads", "defects", "seconds"}


def answer(mails: list[Mail]) -> set[frozenset[str]]:
    """The threads that the ids make: what the generator linked, without the replies that it left unlinked."""
    root: dict[str, str] = {}

    def find(i: str) -> str:
        while root.setdefault(i, i) != i:
            i = root[i]
        return i

    for mail in mails:
        head = mail.raw.partition(b"\n\n")[0].decode("ascii", "replace").replace("\n ", " ")
        for line in head.splitlines():
            if line.startswith(("References: ", "In-Reply-To: ")):
                for mentioned in line.split()[1:]:
                    root[find(mail.message_id)] = find(mentioned)
    threads: dict[str, set[str]] = defaultdict(set)
    for mail in mails:
        threads[find(mail.message_id)].add(mail.message_id)
    return {frozenset(t) for t in threads.values()}


def as_mbox(path: Path, mails: list[Mail]) -> Path:
    with path.open("wb") as file:
        for mail in mails:
            file.write(b"From a@b Mon Jan  5 08:00:00 2015\n" + mail.raw.replace(b"\nFrom ", b"\n>From ") + b"\n\n")
    return path


def as_maildir(path: Path, mails: list[Mail]) -> Path:
    for name in ("cur", "new", "tmp"):
        (path / name).mkdir(parents=True)
    for n, mail in enumerate(mails):
        (path / "cur" / f"{n}.m:2,S").write_bytes(mail.raw)
    return path


def as_eml(path: Path, mails: list[Mail]) -> Path:
    path.mkdir()
    for n, mail in enumerate(mails):
        (path / f"{n}.eml").write_bytes(mail.raw)
    return path


async def run(store: str, cwd: Path, *words: str) -> Done:
    done = await agentmail(*words, "--store", store, env=environment(), cwd=cwd)
    assert done.code == 0, done.err
    return done


async def imported(store: str, cwd: Path, *paths: Path) -> dict[str, Any]:
    done = await run(store, cwd, "import", *map(str, paths), "--json")
    last: dict[str, Any] = json.loads(done.out.splitlines()[-1])
    assert set(last) == KEYS
    assert done.err == "", "no progress bar in a pipe"
    return last


async def threads(store: str, cwd: Path) -> tuple[set[frozenset[str]], dict[str, str | None]]:
    rows = (await run(store, cwd, "threads", "--json", "--all")).rows
    parents: dict[str, str | None] = {}
    for row in rows:
        parents |= row["parents"]
    return {frozenset(row["message_ids"]) for row in rows}, parents


@pytest.mark.parametrize("kind", [as_mbox, as_maildir, as_eml])
async def test_import_and_again(store_url: str, tmp_path: Path, kind: Any) -> None:
    path = kind(tmp_path / "archive", MAIL)
    first = await imported(store_url, tmp_path, path)
    expected = answer(MAIL)
    assert (first["messages"], first["filed"], first["duplicates"]) == (300, 300, 0)
    assert first["threads"] == len(expected)
    before = await threads(store_url, tmp_path)
    assert before[0] == expected
    again = await imported(store_url, tmp_path, path)
    assert (again["messages"], again["filed"], again["duplicates"]) == (300, 0, 300)
    assert again["threads"] == first["threads"]
    assert before == await threads(store_url, tmp_path)


async def test_the_same_mail_in_three_kinds_of_archive_is_filed_once(store_url: str, tmp_path: Path) -> None:
    root = tmp_path / "all"
    root.mkdir()
    as_mbox(root / "list.mbox", MAIL[:100])
    as_maildir(root / "box", MAIL[50:200])
    as_eml(root / "files", MAIL[150:])
    total = await imported(store_url, tmp_path, root)
    assert (total["messages"], total["filed"]) == (400, 300)
    assert (await threads(store_url, tmp_path))[0] == answer(MAIL)


async def test_what_cannot_be_read_is_named_and_the_rest_is_filed(tmp_path: Path) -> None:
    as_eml(tmp_path / "mail", MAIL[:3])
    (tmp_path / "mail" / "broken.eml").write_bytes(b"")
    (tmp_path / "mail" / "\x1b]0;obey.eml").write_bytes(b"")
    store = f"sqlite:///{tmp_path}/s.db"
    words = "import", str(tmp_path / "mail"), "--json", "--store", store
    done = await agentmail(*words, env=environment(), cwd=tmp_path)
    assert done.code == 1
    assert "broken.eml: empty" in done.err
    assert "\x1b" not in done.err
    assert "]0;obey.eml" in done.err
    assert json.loads(done.out)["filed"] == 3


async def test_a_path_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    words = "import", "nowhere", "--store", f"sqlite:///{tmp_path}/s.db"
    done = await agentmail(*words, env=environment(), cwd=tmp_path)
    assert done.code == 2
    assert "nowhere" in done.err


async def test_search_forget_and_size(store_url: str, tmp_path: Path) -> None:
    await imported(store_url, tmp_path, as_eml(tmp_path / "mail", MAIL[:40]))
    head = MAIL[0].raw.decode("latin-1").split("\nFrom: ")[1]
    address = head[head.index("<") + 1 : head.index(">")]
    hits = (await run(store_url, tmp_path, "search", f"from:{address}", "--json")).rows
    assert hits
    assert {h["sender"]["email"] for h in hits} == {address}
    gone = (await run(store_url, tmp_path, "forget", address, "--yes", "--json")).rows[0]
    assert gone["messages"] >= len(hits)
    assert (await run(store_url, tmp_path, "search", f"from:{address}", "--json")).rows == []
    size = (await run(store_url, tmp_path, "size", "--json")).rows[0]
    assert size["accounts"][0]["messages"] == 40 - gone["messages"]
    done = await agentmail("search", "before:soon", "--store", store_url, env=environment(), cwd=tmp_path)
    assert (done.code, "is not a date" in done.err) == (3, True)


async def test_nothing_is_forgotten_unasked(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/s.db"
    await imported(store, tmp_path, as_eml(tmp_path / "mail", MAIL[:3]))
    done = await agentmail("forget", "t1", "--store", store, env=environment(), cwd=tmp_path)
    assert (done.code, "nothing was deleted" in done.err) == (3, True)
    assert (await threads(store, tmp_path))[0] == answer(MAIL[:3])


async def kill_once(store: str, cwd: Path, path: Path, after: float) -> int | None:
    """Start an import and kill it after so many seconds; its exit status if it was done before."""
    process = await start("import", str(path), "--json", "--store", store, env=environment(), cwd=cwd)
    try:
        async with asyncio.timeout(after):
            await process.communicate()
    except TimeoutError:
        with suppress(ProcessLookupError):  # it was done at that very moment
            process.send_signal(signal.SIGKILL)
        await process.communicate()
    return process.returncode


@pytest.mark.parametrize("kills", [5, pytest.param(40, marks=pytest.mark.soak)])
async def test_killed_and_run_again(store_url: str, tmp_path: Path, kills: int) -> None:
    """Kills at random moments, from the start of Python to the last commit; each run goes on from the last."""
    mails = list(generate(4_000, seed=12, small=True)) if kills > 5 else MAIL
    path = as_mbox(tmp_path / "archive.mbox", mails)
    rng = random.Random(kills)
    killed = 0
    for _ in range(kills):
        killed += await kill_once(store_url, tmp_path, path, rng.uniform(0.6, 2.6)) == -signal.SIGKILL
    last = await imported(store_url, tmp_path, path)
    assert (last["messages"], last["threads"]) == (len(mails), len(answer(mails)))
    found, parents = await threads(store_url, tmp_path)
    assert found == answer(mails)
    assert sum(map(len, found)) == len(mails) == len(parents)


async def test_a_bar_on_a_terminal_and_nothing_in_a_pipe(tmp_path: Path) -> None:
    mails = as_eml(tmp_path / "mail", MAIL[:5])
    words = "import", str(mails), "--json", "--store", f"sqlite:///{tmp_path}/bar.db"
    piped = await agentmail(*words, env=environment(), cwd=tmp_path)
    assert (piped.code, piped.err) == (0, "")
    ours, theirs = os.openpty()
    process = await asyncio.create_subprocess_exec(
        str(COMMAND), *words, env=environment(TERM="xterm"), cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=theirs
    )
    os.close(theirs)
    out, _ = await process.communicate()
    shown = os.read(ours, 2**16)
    os.close(ours)
    assert process.returncode == 0
    assert set(json.loads(out)) == KEYS  # the bar is not in the answer
    assert b"messages" in shown
    assert "━".encode() in shown


@forks
async def test_a_killed_import_leaves_no_process_behind(tmp_path: Path) -> None:
    path = as_mbox(tmp_path / "archive.mbox", [*MAIL, *generate(3_000, seed=13, small=True)])
    store = f"sqlite:///{tmp_path}/s.db"
    process = await start("import", str(path), "--json", "--store", store, env=environment(), cwd=tmp_path)
    children = await children_of(process)
    process.kill()
    async with asyncio.timeout(PATIENCE):
        await process.communicate()  # ends when nobody holds its pipes any more
    await until(lambda: not any(map(alive, children)))


async def children_of(process: asyncio.subprocess.Process) -> list[int]:
    """As soon as there are any."""
    file = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(pid) for pid in (await until(file.read_text)).split()]


@pytest.mark.parametrize("kind", [as_mbox, as_maildir])
@pytest.mark.parametrize("workers", [0, 2])
async def test_a_program_has_its_mail_prepared_by_processes_that_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any, workers: int
) -> None:
    """It may have threads, so nothing is forked; how much comes in one batch is of no matter here."""
    monkeypatch.setattr(importing, "BATCH", 40)
    monkeypatch.setattr(importing, "ALONE", 60)
    path = kind(tmp_path / "archive", MAIL)
    async with ThreadStore(f"sqlite:///{tmp_path}/s.db") as store:
        found = await import_archive(store, [path], workers=workers)
    assert (found.messages, found.filed, len(found.touched)) == (300, 300, len(answer(MAIL)))


@forks
async def test_a_forked_process_that_dies_ends_the_import_in_words(tmp_path: Path) -> None:
    path = as_maildir(tmp_path / "archive", MAIL)
    store = f"sqlite:///{tmp_path}/s.db"
    words = "import", str(path), "--account", "me@example.org", "--store", store
    process = await start(*words, env=environment(), cwd=tmp_path)
    [child, *_] = await children_of(process)  # with --account it is forked before the store is opened
    os.kill(child, signal.SIGKILL)
    async with asyncio.timeout(PATIENCE):
        _, err = await process.communicate()
    assert (process.returncode, "ended early (exit status -9)" in err.decode()) == (3, True)
    last = await imported(store, tmp_path, path)
    assert (last["messages"], last["threads"]) == (300, len(answer(MAIL)))


def test_nothing_is_forked_beside_threads(tmp_path: Path) -> None:
    path = as_maildir(tmp_path / "archive", MAIL)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()  # its thread is there
        with reading_ahead([path]) as ahead:
            assert ahead.staff == []


async def test_subjects_on_a_terminal_are_read_in_the_order_they_stand(tmp_path: Path) -> None:
    """A right-to-left override would show `exe.fdp` as `pdf.exe`; with --json the subject is what was sent."""
    spoof = "pay \u202efdp.exe\u2066 \U000e0041now"
    encoded = base64.b64encode(spoof.encode()).decode()
    mail = tmp_path / "spoof.eml"
    mail.write_bytes(f"From: a@x.example\nMessage-ID: <1@x.example>\nSubject: =?utf-8?B?{encoded}?=\n\nhi\n".encode())
    env = environment(store=f"sqlite:///{tmp_path / 'store.db'}")
    await agentmail("import", str(mail), env=env, cwd=tmp_path)
    for words in (("threads", "--all"), ("show", "t1"), ("search", "hi"), ("parse", str(mail))):
        done = await agentmail(*words, env=env, cwd=tmp_path)
        assert "pay fdp.exe now" in " ".join(done.out.split()), done
        assert not {"\u202e", "\u2066", "\U000e0041"} & set(done.out)
    [row] = (await agentmail("threads", "--all", "--json", env=env, cwd=tmp_path)).rows
    assert row["subject"] == spoof
