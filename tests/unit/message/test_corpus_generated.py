"""What a seed writes is read as it was meant; what a seed breaks keeps every promise."""

from __future__ import annotations

import pytest

from agentmail.message.parse import parse
from tests.corpus.cases import GETTERS, cases
from tests.corpus.generate import generate
from tests.corpus.mutate import mutate
from tests.fuzz.target import check

MAILS = [case.raw for case in cases()]


def _read_as_meant(seed: int) -> None:
    raw, wanted = generate(seed)
    message = parse(raw)
    got = {field: GETTERS[field](message, value) for field, value in wanted.items()}
    assert got == wanted, f"seed {seed}"


def _keeps_promises(seed: int) -> None:
    raw = mutate(MAILS, seed)
    try:
        check(raw)
    except Exception as exc:
        raise AssertionError(f"seed {seed}: {exc!r}\n{raw!r}") from exc


def test_what_a_seed_writes_is_read_as_it_was_meant():
    for seed in range(1_000):
        _read_as_meant(seed)


def test_what_a_seed_breaks_keeps_every_promise():
    for seed in range(2_000):
        _keeps_promises(seed)


def test_the_same_seed_makes_the_same_mail():
    assert generate(3) == generate(3) != generate(4)
    assert mutate(MAILS, 3) == mutate(MAILS, 3) != mutate(MAILS, 4)


@pytest.mark.soak
@pytest.mark.parametrize("first", range(0, 100_000, 10_000))
def test_many_seeds(first):
    for seed in range(first, first + 10_000):
        _read_as_meant(seed)
        _keeps_promises(seed)
