"""The second fuzz target, `parse(compose(x))`, on drafts that a seed makes; `make fuzz` looks for new ones."""

from __future__ import annotations

import random

import pytest

from agentmail.errors import BadInput
from agentmail.message import compose
from agentmail.message.models import Address, Draft
from tests.corpus.large import UNITS
from tests.fuzz.target import written

LETTERS = (b"word ", b"x", b"\xf0\x9f\x98\x80", b"\xd7\xa9", b"\xe5\x85\xad", b"--=_", b"\x80")
PIECES = (*UNITS, *LETTERS, b"\r\n.\r\n", b"From ")
ON_A_LINE = tuple(one for one in PIECES if min(one) >= 32)


def _draft(seed: int) -> bytes:
    """Subject, name, text, HTML and the name of a file. Most are on one line where they have to be."""
    rng = random.Random(seed)
    kinds = [ON_A_LINE if rng.random() < 0.9 else PIECES for _ in range(2)]
    parts = [rng.choices(kind, k=rng.randint(0, 12)) for kind in (*kinds, PIECES, PIECES, ON_A_LINE)]
    return b"\0".join(b"".join(part).replace(b"\0", b"") for part in parts)


def _hold(seeds: range) -> None:
    for seed in seeds:
        try:
            written(_draft(seed))
        except Exception as exc:
            raise AssertionError(f"seed {seed}: {exc!r}\n{_draft(seed)!r}") from exc


def test_what_is_composed_of_a_seed_reads_back():
    _hold(range(600))


def test_few_of_them_are_refused():
    """Or the test above would look at nothing."""
    refused = 0
    for seed in range(200):
        subject, name, text, _, _ = (one.decode("utf-8", "replace") for one in _draft(seed).split(b"\0"))
        try:
            person = Address(name=name, email="ana@example.org")
            compose.new(Draft(to=(person,), subject=subject, text=text or "x"), sender="me@example.org")
        except BadInput:
            refused += 1
    assert refused < 100


@pytest.mark.soak
@pytest.mark.parametrize("first", range(0, 100_000, 20_000))
def test_many_drafts(first):
    _hold(range(first, first + 20_000))
