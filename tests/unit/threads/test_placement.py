"""Which messages belong together. Properties first: the order must not matter, and joining is all that ever happens."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmail.message.automated import Bounce, FailedRecipient
from agentmail.message.models import Message
from agentmail.threads.placement import Facts, facts_of, group, key_of
from agentmail.threads.tree import parents

from .worlds import US, message, world

OWN = frozenset({US})


def facts(messages: list[Message], outgoing: list[bool], *, guarded: bool = True) -> list[Facts]:
    return [facts_of(m, guarded=guarded, own=OWN, outgoing=o) for m, o in zip(messages, outgoing, strict=True)]


def threads(*messages: Message, guarded: bool = True, own: bool = True) -> list[list[int]]:
    outgoing = [own and m.sender is not None and m.sender.key == US for m in messages]
    return group(facts(list(messages), outgoing, guarded=guarded), own=OWN)


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 10_000), order=st.randoms(use_true_random=False), guarded=st.booleans())
def test_the_order_does_not_change_threads(seed: int, order: random.Random, guarded: bool) -> None:
    made = world(seed)
    known = facts(made.messages, made.outgoing, guarded=guarded)
    expected = {frozenset(g) for g in group(known, own=OWN)}
    shuffled = list(range(len(known)))
    order.shuffle(shuffled)
    found = {frozenset(shuffled[i] for i in g) for g in group([known[i] for i in shuffled], own=OWN)}
    assert expected == found


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 10_000), cut=st.integers(0, 12))
def test_one_more_message_never_splits_a_thread(seed: int, cut: int) -> None:
    made = world(seed)
    known = facts(made.messages, made.outgoing)
    before = group(known[:cut], own=OWN)
    after = group(known, own=OWN)
    assert all(any(set(old) <= set(new) for new in after) for old in before)


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_guard_only_keeps_apart(seed: int) -> None:
    made = world(seed)
    guarded = group(facts(made.messages, made.outgoing), own=OWN)
    trusting = group(facts(made.messages, made.outgoing, guarded=False))
    assert all(any(set(g) <= set(t) for t in trusting) for g in guarded)


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 10_000), order=st.randoms(use_true_random=False))
def test_parents_form_a_forest_that_the_order_does_not_change(seed: int, order: random.Random) -> None:
    messages = world(seed).messages
    names = [m.text for m in messages]
    expected = parents(messages, names=names)
    assert set(expected) == set(names)
    for name in names:
        seen, at = set(), name
        while (at := expected[at]) is not None:
            assert at not in seen
            seen.add(at)
    shuffled = list(zip(messages, names, strict=True))
    order.shuffle(shuffled)
    assert expected == parents([m for m, _ in shuffled], names=[n for _, n in shuffled])


def test_a_late_message_joins_two_threads() -> None:
    a, b = message("a"), message("b")
    assert threads(a, b) == [[0], [1]]
    assert threads(a, b, message("c", answers=["a", "b"])) == [[0, 1, 2]]


def test_two_answers_to_a_ghost_belong_together() -> None:
    assert threads(message("a", answers=["ghost"]), message("b", answers=["ghost"])) == [[0, 1]]


@pytest.mark.parametrize("garbage", ["<y>", "<ana@customer.example>", "<ANA@Customer.example>"])
def test_an_id_that_may_be_none_joins_nobody_unless_somebody_owns_it(garbage: str) -> None:
    assert threads(message("a", answers=[garbage]), message("b", answers=[garbage])) == [[0], [1]]
    assert threads(message("a", answers=[garbage]), message(garbage), message("b", answers=[garbage])) == [[0, 1, 2]]


def test_one_of_several_ids_in_in_reply_to_is_only_a_hint() -> None:
    one = message("a", in_reply_to=["bob@gmail.com", "x1"])
    two = message("b", in_reply_to=["bob@gmail.com", "x2"])
    assert threads(one, two) == [[0], [1]]
    assert threads(one, two, message("x1")) == [[0, 2], [1]]


def test_self_references_and_cycles_harm_nobody() -> None:
    assert threads(message("a", answers=["a"])) == [[0]]
    ring = [message("a", answers=["c"]), message("b", answers=["a"]), message("c", answers=["b"])]
    assert threads(*ring) == [[0, 1, 2]]
    tree = parents(ring)
    assert sorted(tree.values(), key=str) == ["<a@id.example>", "<c@id.example>", None]


def test_in_reply_to_wins_over_references_when_it_is_one_clean_id() -> None:
    chain = [message("a"), message("b", answers=["a"]), message("c", answers=["a", "b"], in_reply_to=["a"])]
    assert parents(chain)["<c@id.example>"] == "<a@id.example>"
    several = message("d", answers=["a", "b"], in_reply_to=["a", "c"])
    assert parents([*chain, several])["<d@id.example>"] == "<b@id.example>"


def test_a_parent_that_nobody_has_seen_gives_way_to_one_that_is_here() -> None:
    chain = [message("a"), message("c", answers=["a", "ghost"])]
    assert parents(chain)["<c@id.example>"] == "<a@id.example>"


def test_many_messages_that_mention_one_id_cost_linear_time() -> None:
    """A mailing list of a thousand answers to one ghost is one union after the other, not every pair."""
    known = [facts_of(message(f"m{i}", f"p{i}@list.example", answers=["ghost"])) for i in range(2_000)]
    started = time.process_time()
    assert len(group(known)) == 1
    assert time.process_time() - started < 5.0


def test_a_key_is_short_enough_for_an_index() -> None:
    long = "<" + "x" * 5_000 + "@id.example>"
    assert len(key_of(long)) < 200
    assert key_of(long) != key_of(long.replace("x@", "y@"))
    assert threads(message(long), message("b", answers=[long])) == [[0, 1]]


def test_a_bounce_joins_the_mail_it_reports() -> None:
    ours = message("ours", US, ["ana@customer.example"])
    report = message(
        "dsn", "mailer-daemon@mx.example", subject="Undelivered", automated="bounce",
        bounce=Bounce(message_id="<ours@id.example>", recipients=(FailedRecipient(email="ana@customer.example"),)),
    )  # fmt: skip
    forged = report.model_copy(
        update={
            "message_id": "<dsn2@id.example>",
            "bounce": Bounce(message_id="<ours@id.example>", recipients=(FailedRecipient(email="eve@evil.example"),)),
        }
    )
    assert threads(ours, report) == [[0, 1]]
    assert threads(ours, forged) == [[0], [1]]
