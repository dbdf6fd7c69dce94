"""What a seed writes is read as it was meant; what a seed breaks keeps every promise."""

from __future__ import annotations

import pytest

from agentmail.message.parse import parse
from tests.corpus.cases import GETTERS, cases
from tests.corpus.generate import generate
from tests.corpus.mutate import mutants
from tests.fuzz.target import check

MAILS = [(case.name, case.raw) for case in cases()]


def _read_as_meant(seed: int) -> None:
    raw, wanted = generate(seed)
    message = parse(raw)
    got = {field: GETTERS[field](message, value) for field, value in wanted.items()}
    assert got == wanted, f"seed {seed}"


def _keep_promises(count: int, first: int = 0) -> None:
    for name, mail in MAILS:
        for seed, raw in mutants(name, mail, count, first):
            try:
                check(raw)
            except Exception as exc:
                raise AssertionError(f"{seed}: {exc!r}\n{raw!r}") from exc


def test_what_a_seed_writes_is_read_as_it_was_meant():
    for seed in range(600):
        _read_as_meant(seed)


def test_what_a_seed_breaks_keeps_every_promise():
    _keep_promises(3)


def test_the_same_seed_makes_the_same_mail():
    assert generate(3) == generate(3) != generate(4)
    name, mail = MAILS[0]
    assert list(mutants(name, mail, 3)) == list(mutants(name, mail, 3)) != list(mutants(name, mail, 3, first=3))


@pytest.mark.soak
@pytest.mark.parametrize("part", range(10))
def test_many_seeds(part):
    for seed in range(part * 10_000, part * 10_000 + 10_000):
        _read_as_meant(seed)
    _keep_promises(20, first=20 * part)
