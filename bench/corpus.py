"""Mail to measure with: generated from a seed, byte for byte the same each time, with the right answer per message.

The mix is that of a mixed mailbox: 70% multipart/alternative, 10% attachments, a fifth not ASCII in eight languages and
ten charsets, quoted history, 6% with In-Reply-To only, 2% replies without any link, 2% of parents that never arrive, 5%
out of order. Messages come in the order of their dates, many threads side by side.

    python -m bench.corpus DIRECTORY [--messages 20000] [--seed 1]
"""

from __future__ import annotations

import argparse
import base64
import json
import quopri
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.header import Header
from email.utils import format_datetime
from itertools import accumulate
from pathlib import Path

START = datetime(2015, 1, 5, 8, 0, tzinfo=UTC)
LETTERS = {
    "en": ("abcdefghijklmnopqrstuvwxyz", "utf-8"), "de": ("abcdefghiklmnoprstuwzäöüß", "iso-8859-1"),
    "fr": ("abcdefghijlmnopqrstuvéèàç", "windows-1252"), "pl": ("abcdefghijklmnoprstuwyząęłśż", "iso-8859-2"),
    "ru": ("абвгдежзийклмнопрстуфхцчшщыьэюя", "koi8-r"), "el": ("αβγδεζηθικλμνξοπρστυφχψω", "iso-8859-7"),
    "zh": ("".join(map(chr, range(0x4E00, 0x4F50))), "utf-8"),
    "ja": ("".join(map(chr, range(0x3042, 0x3094))), "utf-8"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mail:
    """One generated message and where it belongs."""

    raw: bytes
    message_id: str
    thread: int


@dataclass(slots=True)
class _Thread:
    number: int
    subject: str
    language: str
    people: list[str]
    left: int
    ids: list[str]
    last: str = ""


class Language:
    """Words of one language, the common ones far more often than the others."""

    def __init__(self, name: str, rng: random.Random) -> None:
        letters, self.charset = LETTERS[name]
        short = (1, 3) if name in {"zh", "ja"} else (2, 11)
        words = ["".join(rng.choices(letters, k=rng.randint(*short))) for _ in range(12_000)]
        weights = list(accumulate(1 / (n + 3) for n in range(len(words))))
        self.words = words
        # Sentences are drawn beforehand: a million messages have to be made in minutes.
        self.sentences = [
            " ".join(rng.choices(words, cum_weights=weights, k=rng.randint(5, 18))).capitalize() + "."
            for _ in range(4_000)
        ]

    def subject(self, rng: random.Random) -> str:
        return " ".join(rng.choices(self.words, k=rng.randint(2, 6))).capitalize()

    def text(self, rng: random.Random, sentences: int) -> str:
        chosen = rng.choices(self.sentences, k=sentences)
        chosen.append(" ".join(rng.choices(self.words, k=6)) + f" {rng.randrange(10**8)}.")
        return "\n".join(" ".join(chosen[i : i + 3]) for i in range(0, len(chosen), 3))


def generate(messages: int, *, seed: int = 1, length: float = 5.0, small: bool = False) -> Iterator[Mail]:
    """Messages in threads of `length` messages on average. `small`: 2 to 4 KB each instead of about 16."""
    rng = random.Random(seed)
    languages = {name: Language(name, rng) for name in LETTERS}
    people = [f"{a} {b} <{a}.{b}@{d}>".lower() for a, b, d in (
        (_name(rng), _name(rng), f"{_name(rng)}.example") for _ in range(3_000))]  # fmt: skip
    blob = base64.encodebytes(rng.randbytes(60_000))
    active: list[_Thread] = []
    late: list[tuple[int, Mail]] = []
    now, made, threads, waiting = START, 0, 0, 0
    while made < messages:
        while late and late[0][0] <= made:
            waiting -= 1
            made += 1
            yield late.pop(0)[1]
        if made + waiting >= messages:
            mail = late.pop(0)[1]
            waiting -= 1
            made += 1
            yield mail
            continue
        now += timedelta(seconds=rng.randint(20, 400))
        # Threads are begun as often as they end, so that about 500 of them are open at any time.
        if len(active) < 500 or rng.random() < 1 / length:
            name = "en" if rng.random() < 0.8 else rng.choice(list(LETTERS))
            active.append(_Thread(threads, languages[name].subject(rng), name, rng.sample(people, rng.randint(2, 4)),
                                  min(60, 1 + int(rng.expovariate(1 / (length - 0.5)))), []))  # fmt: skip
            threads += 1
            at = len(active) - 1
        else:
            at = rng.randrange(len(active))
        thread = active[at]
        mail = _compose(thread, languages[thread.language], rng, now, blob, small)
        thread.left -= 1
        if thread.left <= 0:
            active[at] = active[-1]
            active.pop()
        if rng.random() < 0.05:
            late.append((made + rng.randint(5, 200), mail))
            late.sort(key=lambda pair: pair[0])
            waiting += 1
        else:
            made += 1
            yield mail


def one_thread(messages: int, *, seed: int = 1) -> Iterator[Mail]:
    """A single thread: everybody answers somebody in it, with at most 20 references, as real programs write them."""
    rng = random.Random(seed)
    language = Language("en", rng)
    thread = _Thread(0, "One long thread", "en", [f"p{n} <p{n}@long.example>" for n in range(40)], messages, [])
    now = START
    for _ in range(messages):
        now += timedelta(minutes=7)
        yield _compose(thread, language, rng, now, b"", True, linked=True)


def _name(rng: random.Random) -> str:
    return "".join(rng.choice("bdfgklmnprst") + rng.choice("aeiou") for _ in range(rng.randint(2, 4)))


def _compose(
    thread: _Thread, language: Language, rng: random.Random, now: datetime, blob: bytes, small: bool,
    linked: bool = False,
) -> Mail:  # fmt: skip
    message_id = f"<{rng.getrandbits(64):016x}.{thread.number}@{rng.choice(thread.people).rpartition('@')[2][:-1]}>"
    sender = rng.choice(thread.people)
    to = [p for p in thread.people if p != sender]
    headers = ["Received: from mx.example (mx.example [192.0.2.7]) by in.example; " + format_datetime(now),
               f"From: {sender}", f"To: {', '.join(to[:6])}", f"Date: {format_datetime(now)}",
               f"Message-ID: {message_id}"]  # fmt: skip
    quoted = ""
    reply = bool(thread.ids)
    subject = f"Re: {thread.subject}" if reply else thread.subject
    number = thread.number
    if reply:
        chance = 1.0 if linked else rng.random()
        parent = rng.randrange(max(0, len(thread.ids) - 4), len(thread.ids))
        chain = thread.ids[max(0, parent - 18) : parent + 1]
        if chance >= 0.02:  # else: somebody whose program links nothing
            if chance < 0.04:
                chain = [*chain, f"<{rng.getrandbits(64):016x}@ghost.example>"]
            headers.append(f"In-Reply-To: {chain[-1]}")
            if chance >= 0.10:
                headers.append("References: " + "\n ".join(chain))
            elif chance < 0.04:
                headers.append(f"References: {chain[0]} {chain[-1]}")
        quoted = "\n\nOn a day somebody wrote:\n" + "\n".join(f"> {line}" for line in thread.last.splitlines()[:12])
    headers.append(f"Subject: {_header(subject, language.charset)}")
    headers.append("MIME-Version: 1.0")
    text = language.text(rng, rng.randint(4, 12) if small else rng.randint(10, 60))
    thread.last = text
    thread.ids.append(message_id)
    body, head = _body(text + quoted, language.charset, rng, small)
    if not small and rng.random() < 0.10:
        end = rng.randrange(2_000, len(blob)) // 77 * 77
        body, head = _mixed(head, body, blob[:end], f"{language.subject(rng)}.pdf"), MIXED
    raw = "\n".join(headers).encode() + b"\n" + head + b"\n\n" + body
    return Mail(raw, message_id, number)


def _header(text: str, charset: str) -> str:
    return text if text.isascii() else Header(text, charset).encode()


MIXED = b'Content-Type: multipart/mixed; boundary="mix"'


def _body(text: str, charset: str, rng: random.Random, small: bool) -> tuple[bytes, bytes]:
    plain, plain_head = _part(text, charset, "plain")
    if rng.random() >= (0.3 if small else 0.7):
        return plain, plain_head
    style = "" if small else "<style>p{margin:0 0 1em;font-family:sans-serif}</style>" + "<!-- mso -->" * 150
    paragraphs = "".join(f'<p style="margin:0">{line}</p>\n' for line in text.replace("<", "&lt;").splitlines())
    html, html_head = _part(f"<html><head>{style}</head><body>\n{paragraphs}</body></html>", charset, "html")
    parts = b"".join(b"--alt\n" + h + b"\n\n" + b + b"\n" for h, b in ((plain_head, plain), (html_head, html)))
    return parts + b"--alt--\n", b'Content-Type: multipart/alternative; boundary="alt"'


def _part(text: str, charset: str, kind: str) -> tuple[bytes, bytes]:
    if text.isascii():
        return text.encode(), f"Content-Type: text/{kind}; charset=us-ascii".encode()
    data = text.encode(charset, "replace")
    if charset == "utf-8":
        return base64.encodebytes(data), _part_head(kind, charset, "base64")
    return quopri.encodestring(data), _part_head(kind, charset, "quoted-printable")


def _part_head(kind: str, charset: str, encoding: str) -> bytes:
    return f"Content-Type: text/{kind}; charset={charset}\nContent-Transfer-Encoding: {encoding}".encode()


def _mixed(head: bytes, body: bytes, content: bytes, name: str) -> bytes:
    ascii_name = "".join(c if c.isascii() and c.isalnum() else "-" for c in name) + ".pdf"
    return (b"--mix\n" + head + b"\n\n" + body + b"\n--mix\nContent-Type: application/pdf\n"
            b"Content-Transfer-Encoding: base64\nContent-Disposition: attachment; filename=\"" + ascii_name.encode()
            + b"\"\n\n" + content + b"--mix--\n")  # fmt: skip


def write(directory: Path, messages: int, *, seed: int = 1) -> None:
    """A Maildir, an mbox (mboxrd) and `answer.json` (Message-ID -> thread) in a directory that is new."""
    maildir = directory / "maildir"
    for name in ("cur", "new", "tmp"):
        (maildir / name).mkdir(parents=True)
    answer = {}
    with (directory / "all.mbox").open("wb") as mbox:
        for n, mail in enumerate(generate(messages, seed=seed)):
            (maildir / "cur" / f"{n:07d}.bench:2,S").write_bytes(mail.raw)
            mbox.write(b"From bench@example Mon Jan  5 08:00:00 2015\n")
            for line in mail.raw.splitlines(keepends=True):
                mbox.write(b">" + line if line.lstrip(b">").startswith(b"From ") else line)
            mbox.write(b"\n\n")
            answer[mail.message_id] = mail.thread
    (directory / "answer.json").write_text(json.dumps(answer))


def ready(messages: int, *, seed: int = 1) -> Path:
    """The corpus in `.cache/bench`, made when it is not there."""
    directory = Path(__file__).parent.parent / ".cache" / "bench" / f"corpus-{messages}-{seed}"
    if not (directory / "answer.json").exists():
        write(directory, messages, seed=seed)
    return directory


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    write(given.directory, given.messages, seed=given.seed)
