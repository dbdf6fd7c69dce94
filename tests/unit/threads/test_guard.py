"""The guard against strangers, case by case: the table of docs/explanation/threading.md, and attacks on it.

Ana, a customer, wrote to us, and we answered: that thread is there in every case. Then one more message comes, and the
question is whether it joins.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from agentmail.message.models import Message
from agentmail.threads.placement import facts_of, group

from .worlds import US, message

ANA, CARL, BOB, EVE = "ana@customer.example", "carl@customer.example", "bob@gmail.com", "eve@evil.example"
THREAD = [message("ana1"), message("we1", US, [ANA], answers=["ana1"])]
CHAIN = ["ana1", "we1"]
TEAM = "team.customer.example"


def threads(messages: list[Message]) -> list[list[int]]:
    known = [facts_of(m, guarded=True, own={US}, outgoing=m.sender is not None and m.sender.key == US and not m.auth)
             for m in messages]  # fmt: skip
    return group(known, own={US})


CASES: dict[str, tuple[list[Message], bool]] = {
    "a participant answers": ([message("x", ANA, answers=CHAIN)], True),
    "a participant answers under another subject": ([message("x", ANA, answers=CHAIN, subject="New topic")], True),
    "somebody whom a participant put in Cc answers": (
        [message("ana2", ANA, cc=[BOB], answers=CHAIN), message("x", BOB, answers=[*CHAIN, "ana2"])], True),
    "a colleague of a participant answers what was forwarded to them": ([message("x", CARL, answers=CHAIN)], True),
    "a colleague whose mail failed DMARC": ([message("x", CARL, answers=CHAIN, dmarc="fail")], False),
    "somebody at the same free mail provider as a participant": (
        [message("bob1", BOB), message("x", "eve@gmail.com", answers=["bob1"])], False),
    "a colleague of ours answers what was forwarded to them": (
        [message("x", "joe@our.example", answers=CHAIN)], True),
    "a member of the mailing list that the thread runs on": (
        [message("l1", ANA, [f"team@{TEAM}"], list_id=TEAM),
         message("x", EVE, [f"team@{TEAM}"], answers=["l1"], list_id=TEAM)], True),
    "a report of a bounce, about somebody in the thread": (
        [message("x", "mailer-daemon@mx.example", automated="bounce",
                 bounce={"message_id": "<we1@id.example>", "recipients": [{"email": ANA}]})], True),
    "a report of a bounce, about somebody else": (
        [message("x", "mailer-daemon@mx.example", automated="bounce",
                 bounce={"message_id": "<we1@id.example>", "recipients": [{"email": EVE}]})], False),
    "we answer a participant": ([message("x", US, [ANA], answers=CHAIN)], True),
    "we pass it on to a colleague of ours": ([message("x", US, ["joe@our.example"], answers=CHAIN)], True),
    "who a participant asked answers to go to (Reply-To)": (
        [message("ana2", ANA, answers=CHAIN, reply_to=[{"email": BOB}]), message("x", BOB, answers=[*CHAIN, "ana2"])],
        True),
    "we write to a stranger, by hand, under the ids of the thread": ([message("x", US, [BOB], answers=CHAIN)], False),
    "we write from an alias, or by hand": ([message("x", US, [ANA], in_reply_to=["we1"])], True),
    "a stranger who knows an id": ([message("x", EVE, answers=CHAIN)], False),
    "a stranger with the same subject and a forged Cc": ([message("x", EVE, cc=[ANA], answers=CHAIN)], False),
    "a stranger who names the first id only": ([message("x", EVE, answers=["ana1"])], False),
    "a stranger who repeats the Message-ID of a participant": ([message("ana1", EVE, text="x")], False),
    "mail that says it is from a participant, and failed DMARC": (
        [message("x", ANA, answers=CHAIN, dmarc="fail")], False),
    "mail that says it is from us, and failed DMARC": ([message("x", US, answers=CHAIN, dmarc="fail")], False),
    "a stranger on another mailing list": ([message("x", EVE, answers=CHAIN, list_id="evil.example")], False),
    "a stranger, after a participant addressed them": (
        [message("x", EVE, answers=CHAIN), message("ana2", ANA, cc=[EVE], answers=CHAIN)], True),
    "a stranger, after we addressed them in the thread": (
        [message("x", EVE, answers=CHAIN), message("we2", US, [ANA], cc=[EVE], answers=CHAIN)], True),
    "a stranger, after we answered the stranger": (
        [message("x", EVE, answers=CHAIN), message("we2", US, [EVE], answers=[*CHAIN, "x"])], False),
    "a stranger, after we answered all of the stranger's forged Cc": (
        [message("x", EVE, cc=[ANA], answers=CHAIN), message("we2", US, [EVE, ANA], answers=[*CHAIN, "x"])], False),
    "a stranger, after a participant answered the stranger": (
        [message("x", EVE, cc=[ANA], answers=CHAIN), message("ana2", ANA, [EVE, US], answers=[*CHAIN, "x"])], True),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_guard_decides_by_who_not_by_when(case: str) -> None:
    """In every order of arrival."""
    more, joins = CASES[case]
    messages = [*THREAD, *more]
    x = next(i for i, m in enumerate(messages) if m.text == "x")
    home = 0 if case not in _ELSEWHERE else 2
    for order in itertools.permutations(range(len(messages))):
        found = [{order[i] for i in g} for g in threads([messages[i] for i in order])]
        assert any({home, x} <= g for g in found) == joins


_ELSEWHERE = {
    "somebody at the same free mail provider as a participant",
    "a member of the mailing list that the thread runs on",
}
"""Cases whose thread begins with a message of their own."""


def test_the_table_of_the_documentation_is_this_one() -> None:
    page = (Path(__file__).parents[3] / "docs" / "explanation" / "threading.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| (.+?) \| (joins|apart) \|$", page, flags=re.MULTILINE))
    assert rows == {case: "joins" if joins else "apart" for case, (_, joins) in CASES.items()}


def test_without_an_account_everybody_is_believed() -> None:
    known = [facts_of(m) for m in (*THREAD, message("x", EVE, answers=CHAIN))]
    assert group(known) == [[0, 1, 2]]


def test_a_ghost_joins_only_those_who_know_each_other() -> None:
    """Two answers to a mail that we never saw: a stranger who knows its id does not get in by it."""
    assert threads([message("a", ANA, answers=["ghost"]), message("e", EVE, cc=[ANA], answers=["ghost"])]) == [[0], [1]]
    assert threads([message("a", ANA, answers=["ghost"]), message("c", CARL, answers=["ghost"])]) == [[0, 1]]
    known = [message("a", ANA, cc=[BOB], answers=["ghost"]), message("b", BOB, cc=[ANA], answers=["ghost"])]
    assert threads(known) == [[0, 1]]
