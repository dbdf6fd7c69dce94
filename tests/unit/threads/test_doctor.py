"""Every code of the doctor is found in a message that has the illness, and in none that has not."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agentmail.message import outlook
from agentmail.message.compose import reply
from agentmail.message.parse import parse
from agentmail.testing.people import Person
from agentmail.threads.doctor import examine
from agentmail.threads.findings import KINDS

NOW = datetime(2026, 5, 14, 9, 30, tzinfo=UTC)
GUID = bytes(range(16))
INDEX = outlook.write(outlook.fresh(NOW, GUID))
CHILD = outlook.write(outlook.child(outlook.fresh(NOW, GUID), NOW + timedelta(hours=1), 1))
OTHER = outlook.write(outlook.fresh(NOW, bytes(16)))

ROOT = "Message-ID: <r@x.org>\nSubject: Offer\nDate: Thu, 14 May 2026 08:00:00 +0000\nFrom: a@x.org\nTo: b@x.org\n"
PARENT = ("Message-ID: <p@x.org>\nIn-Reply-To: <r@x.org>\nReferences: <r@x.org>\nSubject: Re: Offer\n"
          f"Date: Thu, 14 May 2026 09:00:00 +0000\nFrom: b@x.org\nTo: a@x.org\nThread-Index: {INDEX}\n")  # fmt: skip
GOOD = {"Message-ID": "<c@x.org>", "In-Reply-To": "<p@x.org>", "References": "<r@x.org> <p@x.org>",
        "Subject": "Re: Offer", "Date": "Thu, 14 May 2026 10:00:00 +0000",
        "From": "a@x.org", "To": "b@x.org"}  # fmt: skip

ILL: dict[str, dict[str, str | None]] = {
    "message-id-missing": {"Message-ID": None},
    "message-id-bare": {"Message-ID": "c@x.org"},
    "message-id-no-at": {"Message-ID": "<FMfcgx>"},
    "message-id-several-ats": {"Message-ID": "<a@cgel.zte@gmail.com>"},
    "message-id-malformed": {"Message-ID": "<a b@x.org>"},
    "message-id-dot": {"Message-ID": "<c@x.org.>"},
    "message-id-odd-characters": {"Message-ID": "<a:b,c@x.org>"},
    "message-id-twice": {"Message-ID": "<c@x.org>\nMessage-ID: <d@x.org>"},
    "message-id-shared": {"Message-ID": "<r@x.org>"},
    "message-id-rewritten": {"X-Google-Original-Message-ID": "c"},
    "in-reply-to-missing": {"In-Reply-To": None},
    "in-reply-to-bare": {"In-Reply-To": "p@x.org"},
    "in-reply-to-no-id": {"In-Reply-To": "your message of Tuesday <b@x.org>"},
    "in-reply-to-several": {"In-Reply-To": "<p@x.org> <r@x.org>"},
    "in-reply-to-not-last": {"In-Reply-To": "<r@x.org>"},
    "references-missing": {"References": None},
    "references-parent-only": {"References": "<p@x.org>"},
    "references-root-missing": {"References": "<q@x.org> <p@x.org>"},
    "references-comma": {"References": "<r@x.org>, <p@x.org>"},
    "references-unbalanced": {"References": "<r@x.org> p@x.org>"},
    "references-repeated": {"References": "<r@x.org> <r@x.org> <p@x.org>"},
    "references-itself": {"References": "<r@x.org> <c@x.org> <p@x.org>"},
    "references-cycle": {"Message-ID": "<r@x.org>"},
    "references-unknown-rewrite": {"References": "<a.b.cSMTPIN_ADDED_BROKEN@mx.google.com> <p@x.org>"},
    "line-too-long": {"References": "<r@x.org> " + " ".join(f"<{i}@x.org>" for i in range(99)) + " <p@x.org>"},
    "subject-changed": {"Subject": "Re: Offers"},
    "reply-without-ids": {"In-Reply-To": None, "References": None},
    "subject-prefixes": {"Subject": "Re: AW: Re: Offer"},
    "subject-prefix-localised": {"Subject": "SV: Offer"},
    "thread-index-invalid": {"Thread-Index": "not base64"},
    "thread-index-length": {"Thread-Index": outlook.write(outlook.read(CHILD) + b"x")},
    "thread-index-other-conversation": {"Thread-Index": OTHER},
    "thread-index-not-extended": {"Thread-Index": INDEX},
    "thread-topic-changed": {"Thread-Index": CHILD, "Thread-Topic": "Other"},
    "late-without-references": {"In-Reply-To": None, "References": None, "Date": "Thu, 28 May 2026 10:00:00 +0000"},
    "date-missing": {"Date": "yesterday"},
    "date-skewed": {"Date": "Thu, 14 May 2020 10:00:00 +0000"},
}  # fmt: skip


def _raw(fields: dict[str, str | None]) -> bytes:
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return ("\n".join(lines) + "\n\nHi\n").replace("\n", "\r\n").encode()


def _examine(fields):
    raws = [(ROOT + "\nHi\n").replace("\n", "\r\n").encode(), (PARENT + "\nHo\n").replace("\n", "\r\n").encode()]
    raws.append(_raw(fields))
    return examine([parse(raw) for raw in raws], files=["1.eml", "2.eml", "3.eml"], raws=raws)


@pytest.mark.parametrize("code", ILL)
def test_an_illness_is_found_by_its_name(code):
    report = _examine({**GOOD, **ILL[code]})
    found = {f.code: f for f in report.messages[2].findings}
    assert code in found
    assert found[code].severity == KINDS[code].severity
    assert found[code].message
    assert found[code].fix
    assert report.healthy == (not any(f.severity == "error" for m in report.messages for f in m.findings))


def test_a_healthy_reply_has_no_finding():
    report = _examine({**GOOD, "Thread-Index": CHILD, "Thread-Topic": "Offer"})
    assert () == report.messages[2].findings
    assert report.healthy


def test_every_code_has_an_example_here_and_its_place_in_the_reference():
    assert set(KINDS) == {*ILL, "too-many-messages"}
    page = (Path(__file__).parents[3] / "docs" / "reference" / "doctor.md").read_text("utf-8")
    assert [] == [code for code in KINDS if f"`{code}`" not in page]


def test_more_than_a_hundred_messages_are_noted():
    raws = [_raw({**GOOD, "Message-ID": f"<{i}@x.org>", "References": "<r@x.org>", "In-Reply-To": "<r@x.org>"})
            for i in range(102)]  # fmt: skip
    report = examine([parse(raw) for raw in raws])
    assert 2 == sum(f.code == "too-many-messages" for m in report.messages for f in m.findings)


def test_a_changed_word_is_named():
    report = _examine({**GOOD, "Subject": "Re: Offers"})
    assert "(Offer became Offers)" in next(
        f.message for f in report.messages[2].findings if f.code == "subject-changed"
    )


def test_the_report_has_the_shape_that_other_programs_read():
    plain = json.loads(json.dumps(_examine(GOOD).as_json()))
    assert {"messages", "groups", "confidence"} == set(plain)
    assert {"gmail", "outlook", "apple", "thunderbird", "fastmail"} == set(plain["groups"]) == set(plain["confidence"])
    assert {"message_id": "<c@x.org>", "file": "3.eml", "findings": []} == plain["messages"][2]
    broken = _examine({**GOOD, "Subject": "x"}).as_json()["messages"][2]["findings"][0]
    assert {"code", "severity", "message", "fix"} == set(broken)


@pytest.mark.parametrize("client", ["gmail", "outlook", "outlook-desktop", "apple", "thunderbird", "yahoo"])
def test_what_our_agent_writes_in_any_thread_has_nothing_wrong(client):
    ana = Person("ana@example.org", "Ana Ruiz", client=client)
    messages = [parse(ana.write("bot@example.com", "Angebot für Mai", "Hello", now=NOW))]
    for turn in range(1, 9):
        at = NOW + timedelta(hours=turn)
        if turn % 2:
            made = reply(messages[-1], "ok", sender="bot@example.com", ancestors=messages[:-1], now=at).raw
        else:
            made = ana.reply(messages[-1], "and?", now=at)
        messages.append(parse(made))
    report = examine(messages)
    assert report.healthy
    for message, examined in zip(messages, report.messages, strict=True):
        if message.sender.email == "bot@example.com":
            assert () == examined.findings


def test_nothing_is_too_odd_to_examine():
    for raw in (b"", b"\0" * 100, b"Message-ID:\r\nReferences: <\r\nIn-Reply-To: >\r\nThread-Index: =\r\n\r\n"):
        assert examine([parse(raw)]).messages
    assert () == examine([]).messages
