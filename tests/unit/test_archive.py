"""Archives on disk: what is read, in which habit it was written, and what is passed over without losing the rest."""

from __future__ import annotations

import gzip
import io
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmail.archive import Found, Unreadable, measure, read
from agentmail.archive.mbox import TooLarge, is_mbox, messages

FROM = b"From ana@example.org Mon Jan  5 08:00:00 2026\n"


def mail(n: int = 1, body: bytes = b"Hello.\n") -> bytes:
    return b"From: ana@example.org\nMessage-ID: <%d@example.org>\nSubject: %d\n\n" % (n, n) + body


def split(mbox: bytes, **given: object) -> list[bytes | TooLarge]:
    return list(messages(io.BytesIO(mbox), **given))  # type: ignore[arg-type]


def found(*paths: Path) -> list[bytes]:
    return [one.raw for one in read(paths) if isinstance(one, Found)]


def mboxrd(mails: list[bytes]) -> bytes:
    """As a careful program writes it."""
    lines = []
    for raw in mails:
        lines.append(FROM)
        for line in raw.splitlines(keepends=True):
            lines.append(b">" + line if line.lstrip(b">").startswith(b"From ") else line)
        lines.append(b"\n")
    return b"".join(lines)


body_lines = st.lists(
    st.sampled_from([b"", b"x", b"From ", b"From here on", b">From there", b">>From", b"From: a@b", b"\r", b"\xff\x00"])
    | st.binary(max_size=30).filter(lambda b: b"\n" not in b),
    max_size=12,
)


@given(st.lists(body_lines, min_size=1, max_size=5))
def test_what_goes_into_an_mboxrd_comes_out(bodies: list[list[bytes]]) -> None:
    mails = [mail(n, b"".join(line + b"\n" for line in lines)) for n, lines in enumerate(bodies)]
    assert mails == split(mboxrd(mails))


@given(st.binary(max_size=400))
def test_any_bytes_can_be_read_as_an_mbox(junk: bytes) -> None:
    split(junk)
    split(FROM + junk + b"\n" + FROM + mail())


def test_a_sentence_that_begins_with_from_is_no_separator() -> None:
    """Half of the world's mbox files quote nothing."""
    raw = mail(1, b"Hi,\n\nFrom what I see at 12:30, 2026 will be fine.\n\nFrom here on it is easy.\n")
    assert [raw, mail(2)] == split(FROM + raw + b"\n" + FROM + mail(2))


def test_a_forgotten_blank_line_loses_no_message() -> None:
    assert [mail(1), mail(2)] == split(FROM + mail(1) + FROM + mail(2))


def test_content_length_that_leads_to_the_next_separator_is_believed() -> None:
    """mboxcl2: nothing is quoted, the header counts the body."""
    body = b"A mail in a mail:\n\n" + FROM + b"Subject: inner\n\n>From stays as it is\n"
    raw = b"Subject: outer\nContent-Length: %d\n\n" % len(body) + body
    assert [raw, mail(2)] == split(FROM + raw + b"\n" + FROM + mail(2))


def test_mboxcl_counts_and_quotes() -> None:
    body = b">From my window\n"
    raw = b"Subject: x\nContent-Length: %d\n\n" % len(body)
    assert [raw + b"From my window\n", mail(2)] == split(FROM + raw + body + b"\n" + FROM + mail(2))


@pytest.mark.parametrize("length", [b"3", b"99999999", b"0", b"-1", b"x"])
def test_a_wrong_content_length_is_ignored(length: bytes) -> None:
    raw = b"Subject: x\nContent-Length: " + length + b"\n\nsome text\n"
    assert [raw, mail(2)] == split(FROM + raw + b"\n" + FROM + mail(2))


def test_crlf() -> None:
    mbox = (FROM + mail(1, b">From me\n") + b"\n" + FROM + mail(2)).replace(b"\n", b"\r\n")
    assert [mail(1, b"From me\n").replace(b"\n", b"\r\n"), mail(2).replace(b"\n", b"\r\n")] == split(mbox)


def test_what_a_mail_program_leaves_at_the_top_is_no_message() -> None:
    internal = b"Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\nX-IMAP: 1\n\nThis text is part of ...\n"
    assert [mail(2)] == split(b"\n" + FROM + internal + b"\n" + FROM + mail(2))


def test_a_message_that_is_too_large_is_named_and_the_next_one_read() -> None:
    first, second = split(FROM + mail(1, b"x" * 5000) + b"\n" + FROM + mail(2), largest=1000)
    assert isinstance(first, TooLarge)
    assert mail(2) == second


def test_memory_does_not_grow_with_a_line_that_never_ends() -> None:
    class Endless(io.RawIOBase):
        left = 300 * 2**20

        def readline(self, size: int | None = -1, /) -> bytes:  # type: ignore[override]
            assert size is not None
            assert 0 < size <= 2**16
            self.left -= size
            return b"x" * size if self.left > 0 else b""

    file = Endless()
    reader = messages(file, seekable=False, largest=1000)  # type: ignore[arg-type]
    assert [] == list(reader)


def test_is_mbox() -> None:
    assert is_mbox(FROM + mail())
    assert not is_mbox(mail())
    assert not is_mbox(b"From here on, everything is text.\nAnd goes on.\n")


def maildir(path: Path, *mails: bytes) -> Path:
    for name in ("cur", "new", "tmp"):
        (path / name).mkdir(parents=True)
    for n, raw in enumerate(mails):
        (path / ("cur" if n % 2 else "new") / f"1700000000.M{n}.host:2,S").write_bytes(raw)
    return path


def test_a_maildir_with_its_mailboxes(tmp_path: Path) -> None:
    box = maildir(tmp_path / "box", mail(1), mail(2))
    maildir(box / ".Sent", mail(3))
    (box / "tmp" / "half").write_bytes(mail(9))
    (box / "dovecot-uidlist").write_text("3 V1 N1\n")
    (box / "cur" / "no-header-at-all").write_bytes(b"just text")
    assert {mail(1), mail(2), mail(3), b"just text"} == set(found(box))


def test_folders_in_folders(tmp_path: Path) -> None:
    deep = tmp_path
    for n in range(40):
        deep = deep / f"d{n}"
    deep.mkdir(parents=True)
    (deep / "a.eml").write_bytes(mail(1))
    (deep / "archive").write_bytes(mboxrd([mail(2), mail(3)]))
    (deep / "old.mbox.gz").write_bytes(gzip.compress(mboxrd([mail(4)])))
    (deep / "17").write_bytes(mail(5))  # MH
    (deep / "README.txt").write_text("Subject: not\nFrom: me\n\nmail\n")
    (deep / "photo.jpg").write_bytes(b"\xff\xd8\xff")
    (deep / ".hidden.eml").write_bytes(mail(6))
    maildir(deep / "box", mail(7))
    assert {mail(n) for n in (1, 2, 3, 4, 5, 7)} == set(found(tmp_path))
    assert measure([tmp_path]) > 0


def test_a_link_in_a_circle_and_a_pipe_do_not_hold_us(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe.eml")
    (tmp_path / "a.eml").write_bytes(mail(1))
    assert [mail(1)] == found(tmp_path)


def test_a_file_that_was_named_is_mail_whatever_it_is_called(tmp_path: Path) -> None:
    (tmp_path / "message.txt").write_bytes(mail(1))
    assert [mail(1)] == found(tmp_path / "message.txt")


def test_what_cannot_be_read_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.mbox.gz").write_bytes(gzip.compress(mboxrd([mail(1)]))[:-20])
    (tmp_path / "b.eml").write_bytes(b"")
    (tmp_path / "c.eml").write_bytes(mail(3))
    (tmp_path / "d.eml").write_bytes(mail(4, b"x" * 2000))
    (tmp_path / "e.mbox").write_bytes(b"")
    (tmp_path / "f.eml").symlink_to(tmp_path / "nowhere")
    result = list(read([tmp_path, tmp_path / "gone.eml"], largest=1000))
    named = {Path(one.source).name for one in result if isinstance(one, Unreadable)}
    assert {"a.mbox.gz", "b.eml", "d.eml", "f.eml", "gone.eml"} == named
    assert mail(3) in [one.raw for one in result if isinstance(one, Found)]


def test_an_mbox_that_was_cut_off_in_a_separator_names_the_mail_that_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "cut.mbox"
    path.write_bytes(mboxrd([mail(1)]) + FROM)
    first, gone = read([path])
    assert isinstance(first, Found)
    assert gone == Unreadable(f"{path}#2", "empty")


@pytest.mark.parametrize("top", [b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n", b"\n"])
def test_what_an_editor_puts_before_an_mbox_does_not_make_one_message_of_it(tmp_path: Path, top: bytes) -> None:
    (tmp_path / "list").write_bytes(top + mboxrd([mail(1), mail(2)]))
    assert [mail(1), mail(2)] == found(tmp_path / "list")


def test_the_source_says_where_a_message_was(tmp_path: Path) -> None:
    path = tmp_path / "list.mbox"
    path.write_bytes(mboxrd([mail(1), mail(2)]))
    assert [f"{path}#1", f"{path}#2"] == [one.source for one in read([path])]
