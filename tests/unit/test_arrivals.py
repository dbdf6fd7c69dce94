"""What is worked out before a message is filed: its key, which stores hold and must not change, and its stored form."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from agentmail.message.parse import parse
from agentmail.store.arrivals import Arrival, content_key, prepare


def test_the_key_of_a_message_is_what_older_versions_wrote() -> None:
    raw = (
        b"From: Ana <ana@x.example>\nDate: Thu, 1 Jan 2026 10:00:00 +0000\nMessage-ID: <a@x.example>\n"
        b"Subject: two  words\n\none  \ntwo\t\n\n"
    )
    assert content_key(parse(raw)) == "32a62cbb7619d9f6dcbe57dd54237c458a7802b1"


MAILS = (
    (
        b"From: Ana <ana@x.example>\nTo: b@y.example, =?utf-8?q?J=C3=B6?= <j@y.example>\nMessage-ID: <a@x.example>\n"
        b"References: <c@x.example> <d@x.example>\nSubject: =?utf-8?q?gr=C3=BC=C3=9Fe?=\n\nhello\n> hello\n"
    ),
    b"From: a@x.example\nMIME-Version: 1.0\nContent-Type: text/html\n\n<p>only <b>HTML</b></p>\n",
    (
        b"From: a@x.example\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\ntext\n--b\n"
        b"Content-Type: application/pdf; name=x.pdf\nContent-Transfer-Encoding: base64\n\nJVBERi0=\n--b--\n"
    ),
    (
        b"From: MAILER-DAEMON@x.example\nMIME-Version: 1.0\nContent-Type: multipart/report; boundary=b;"
        b" report-type=delivery-status\n\n--b\n\nit came back\n--b\nContent-Type: message/delivery-status\n\n"
        b"Reporting-MTA: dns; x.example\n\nFinal-Recipient: rfc822; b@y.example\nAction: failed\nStatus: 5.1.1\n--b--\n"
    ),
    b"",
)


@pytest.mark.parametrize("raw", MAILS)
def test_what_is_stored_is_what_a_message_says_when_it_is_dumped(raw: bytes) -> None:
    message = parse(raw, received_at=datetime(2026, 1, 1, tzinfo=UTC))
    prepared = prepare(Arrival(parse(raw, received_at=message.received_at), raw, outgoing=True),
                       account="a@x.example", own={"a@x.example"}, secret=b"s" * 32)  # fmt: skip
    expected = message.model_copy(update={"outgoing": True}).model_dump_json(exclude={"id", "thread", "new_text"})
    assert prepared.row["parsed"] == expected
