"""Law 3 with figures: each mail at most 1 s of CPU and 64 MB + 6 times its size, measured on its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.corpus.large import CASES, wild

HUGE = [name for name in CASES if name.startswith("40mb-")]
OFTEN = {"40mb-html", "40mb-flowed", "40mb-base64"}
"""Of the huge ones, those that once broke a limit or come nearest to it. The others are soak tests."""
LARGE = [name for name in CASES if name not in HUGE or name in OFTEN]


def _within_limits(*names: str) -> None:
    """In a program without threads, since it forks."""
    command = [sys.executable, "-m", "tests.corpus", "limits", *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
    assert len(done.stdout.splitlines()) >= len(names)


def test_the_large_ones_the_issue_names_are_there():
    sizes = {name: CASES[name] for name in ("100k-recipients", "1000-deep", "1mb", "10000-parts", "5000-references")}
    assert sizes["100k-recipients"]().count(b"@example.org>") == 100_000
    assert sizes["1000-deep"]().count(b"multipart/mixed") == 1_000
    assert len(sizes["1mb"]()) > 1_000_000
    assert sizes["10000-parts"]().count(b"\n--b\n") == 10_000
    assert sizes["5000-references"]().count(b"<r") == 5_000


@pytest.mark.parametrize("group", range(2))
def test_large_mails_stay_within_limits(group):
    _within_limits(*LARGE[group::2])


def test_small_mails_stay_within_limits():
    _within_limits("mail")


def test_mails_that_nobody_thought_of_stay_within_limits():
    assert wild(7) == wild(7) != wild(8)
    _within_limits(*(f"wild:{seed}" for seed in range(24)))


@pytest.mark.soak
def test_huge_mails_stay_within_limits():
    _within_limits(*HUGE)


@pytest.mark.soak
@pytest.mark.parametrize("first", range(0, 2_000, 250))
def test_many_mails_that_nobody_thought_of_stay_within_limits(first):
    _within_limits(*(f"wild:{seed}" for seed in range(first, first + 250)))
