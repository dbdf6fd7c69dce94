"""Ours beside Python's own parser, field by field. Where they differ, a rule has to say why.

What no rule explains is a fault of ours, or of the rules, and fails the test.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from .pair import Pair
from .rules import RULES


class Difference(NamedTuple):
    field: str
    ours: Any
    theirs: Any
    rule: str | None
    """Which rule explains it; None when none does."""

    def __str__(self) -> str:
        return f"{self.field}: {self.rule or 'UNEXPLAINED'}\n  ours   {self.ours!r}\n  theirs {self.theirs!r}"


def differences(raw: bytes) -> Iterator[Difference]:
    """Where the two readings of a mail differ, and why."""
    pair = Pair(raw)
    for field, mine in pair.ours.items():
        other = pair.theirs[field]
        if mine != other:
            yield Difference(field, mine, other, _explained(pair, field, mine, other))


# ---------------------------------------------------------------------------------------------------------------------


def _explained(pair: Pair, field: str, mine: Any, other: Any) -> str | None:
    return next((rule.name for rule in RULES if field in rule.fields and rule.explains(pair, field, mine, other)), None)
