"""The judge of the demo finds every way in which a thread can be broken: each mutation of a good one."""

from __future__ import annotations

import pytest

from agentmail.testing.verdict import judge


def letter(message_id: str, subject: str = "Re: Kick-off", *ancestors: str, **more: str) -> bytes:
    lines = [f"Subject: {subject}", f"Message-ID: {message_id}", *(f"{k}: {v}" for k, v in more.items())]
    if ancestors:
        lines += [f"In-Reply-To: {ancestors[-1]}", "References: " + "\r\n ".join(ancestors)]
    return ("\r\n".join(lines) + "\r\n\r\nReferences: <body@x>\r\n").encode()


ONE, TWO, THREE, FOUR = "<1@x>", "<2@x>", "<3@x>", "<4@x>"
THREAD = [
    letter(ONE, "Kick-off"),
    letter(TWO, "Re: Kick-off", ONE),
    letter(THREE, "RE: Kick-off", ONE, TWO),
    letter(FOUR, "Re: =?utf-8?q?Kick-off?=", ONE, TWO),
]


def broken(raws: list[bytes]) -> set[str]:
    names = ("ids", "chains", "subjects")
    return {name for name, finding in zip(names, judge(raws), strict=True) if not finding.holds}


def test_a_good_thread_with_a_branch() -> None:
    assert broken(THREAD) == set()
    assert broken(THREAD[::-1]) == set(), "the order in the mailbox means nothing"


@pytest.mark.parametrize(
    ("number", "old", "new", "finds"),
    [
        (3, b"References: <1@x>\r\n <2@x>", b"References: <2@x>", {"chains"}),
        (3, b"References: <1@x>\r\n <2@x>", b"References: <1@x>", {"chains"}),
        (3, b"References: <1@x>\r\n <2@x>", b"References: <2@x> <1@x>", {"chains"}),
        (3, b"References: <1@x>\r\n <2@x>", b"References: <1@x> <other@x> <2@x>", {"chains"}),
        (3, b"References: <1@x>\r\n <2@x>", b"References: <1@x> <2@x> <2@x>", {"chains"}),
        (3, b"References: <1@x>\r\n <2@x>", b"References: =?utf-8?q?=3C1=40x=3E?= <2@x>", {"chains"}),
        (3, b"References: <1@x>\r\n <2@x>\r\n", b"", {"chains"}),
        (3, b"In-Reply-To: <2@x>\r\n", b"", {"chains"}),
        (3, b"In-Reply-To: <2@x>", b"In-Reply-To: <gone@x>", {"chains"}),
        (3, b"In-Reply-To: <2@x>", b"In-Reply-To: <3@x>", {"chains"}),
        (3, b"In-Reply-To: <2@x>", b"In-Reply-To: <2@x> <1@x>", {"chains"}),
        (1, b"In-Reply-To: <1@x>", b"In-Reply-To: <3@x>", {"chains"}),
        (3, b"Message-ID: <4@x>", b"Message-ID: <2@x>", {"ids"}),
        (3, b"Message-ID: <4@x>\r\n", b"", {"ids"}),
        (3, b"Message-ID: <4@x>", b"Message-ID: <4@x>\r\nMessage-ID: <5@x>", {"ids"}),
        (2, b"RE: Kick-off", b"RE: Kickoff", {"subjects"}),
        (2, b"RE: Kick-off", b"RE: Re: Kick-off", {"subjects"}),
        (2, b"RE: Kick-off", b"Kick-off (was: lunch)", {"subjects"}),
    ],
)
def test_what_is_broken_is_found(number: int, old: bytes, new: bytes, finds: set[str]) -> None:
    raws = list(THREAD)
    assert old in raws[number]
    raws[number] = raws[number].replace(old, new)
    assert finds <= broken(raws)


def test_a_missing_message_is_found() -> None:
    for number in (0, 1):
        assert "chains" in broken(THREAD[:number] + THREAD[number + 1 :])
