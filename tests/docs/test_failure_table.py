"""The table of failure modes in docs/explanation/receiving.md names tests that exist, and leaves no number out."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/explanation/receiving.md").read_text()
ROWS = [line for line in PAGE.splitlines() if re.match(r"\| S\d", line)]
TESTS = {
    name
    for path in (ROOT / "tests/integration/sync").glob("test_*.py")
    for name in re.findall(r"def (test_\w+)", path.read_text())
}


def test_every_failure_mode_is_in_the_table() -> None:
    numbers = {int(n) for row in ROWS for n in re.findall(r"S(\d+)", row.split("|")[1])}
    assert set(range(1, 45)) == numbers


def test_every_row_names_tests_and_every_test_of_a_row_is_named() -> None:
    named = [set(re.findall(r"`(test_\w+)`", row)) for row in ROWS]
    assert all(named)
    assert set() == set().union(*named) - TESTS
    assert set() == {t for t in TESTS if re.match(r"test_s\d", t)} - set().union(*named)
