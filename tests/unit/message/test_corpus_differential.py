"""Ours beside Python's own parser, field by field, on everything in tests/corpus: a rule explains each difference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest

from tests.corpus.cases import cases
from tests.corpus.differential import differences
from tests.corpus.generate import generate
from tests.corpus.mutate import mutants
from tests.corpus.pair import Pair, tidied
from tests.corpus.rules import RULES

MAILS = [(case.name, case.raw) for case in cases()]
MUTANTS = 6
"""Of each mail. `make soak` looks at ten times as many."""


def _explained(mails: Iterable[tuple[str, bytes]]) -> Counter[str]:
    """How often each rule explained a difference; AssertionError when none did."""
    used: Counter[str] = Counter()
    for name, raw in mails:
        for one in differences(raw):
            assert one.rule, f"{name}: {one}\n{raw!r}"
            used[one.rule] += 1
    return used


def _mutants(count: int, first: int = 0) -> Iterable[tuple[str, bytes]]:
    for name, mail in MAILS:
        yield from mutants(name, mail, count, first)


def test_a_rule_explains_each_difference_and_each_rule_explains_one():
    used = _explained(MAILS) + _explained(_mutants(MUTANTS))
    assert {rule.name for rule in RULES} == set(used)


def test_mails_that_keep_to_the_rfcs_need_few_rules():
    """Line ends, folds and joined words, and charsets under the name of their subset: nothing else is different."""
    used = _explained((str(seed), generate(seed).raw) for seed in range(200))
    assert set(used) <= {"line-ends", "one-line", "words", "charset"}


def test_rules_are_named_once_and_say_why():
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert all(len(rule.why) > 20 and rule.why.endswith(".") for rule in RULES)


def test_a_wrong_field_is_not_explained(monkeypatch: pytest.MonkeyPatch):
    """The rules do not explain whatever comes: with each field wrong, nearly all plain mails are told apart."""
    wrong = {
        "message_id": "<other@example.org>",
        "in_reply_to": ["<other@example.org>"],
        "references": [],
        "subject": "Other",
        "from": [["Mallory", "mallory@evil.example"]],
        "to": [],
        "cc": [["Mallory", "mallory@evil.example"]],
        "date": "1999-01-01T00:00:00Z",
        "text": "Other",
        "html": "<p>Other</p>",
        "attachments": [["other.pdf", "application/pdf", 12_345]],
    }
    right = Pair.__init__
    for field, value in wrong.items():

        def broken(self: Pair, raw: bytes, message: object = None, field: str = field, value: object = value) -> None:
            right(self, raw, message)  # type: ignore[arg-type]
            self.ours[field] = value

        monkeypatch.setattr(Pair, "__init__", broken)
        found = [one for seed in range(30) for one in differences(generate(seed).raw) if one.field == field]
        unexplained = sum(one.rule is None for one in found)
        assert unexplained >= len(found) * 0.8 > 0, (field, Counter(one.rule for one in found))


def test_a_header_block_in_order_stays_as_it_is():
    assert tidied(b"A: b\r\n c\r\n\r\nx\n") == b"A: b\r\n c\r\n\r\nx\n"


@pytest.mark.soak
@pytest.mark.parametrize("part", range(6))
def test_many_mutants(part):
    _explained(_mutants(10, first=10 * part))
    _explained((str(seed), generate(seed).raw) for seed in range(part * 1_000, part * 1_000 + 1_000))
