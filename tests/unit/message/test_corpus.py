"""Every mail of tests/corpus/mail comes out as its .json says, and keeps the promises that hold for any bytes."""

from __future__ import annotations

import pytest

from tests.corpus.cases import CORE, GETTERS, MAIL, NOTES, Case, cases
from tests.fuzz.target import check

CASES = list(cases())


def test_there_are_enough_of_them_and_each_says_what_must_come_out():
    assert len(CASES) >= 150
    assert {case.name for case in CASES} == {path.stem for path in MAIL.glob("*.json")}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_comes_out_is_what_is_right(case: Case):
    assert set(case.wanted) >= CORE
    assert set(case.wanted) <= {*GETTERS, *NOTES}
    assert case.wanted["about"].endswith(".")
    differences = case.differences()
    assert not differences, "\n".join([case.wanted["about"], *map(str, differences)])


def test_every_promise_for_any_bytes_holds_for_each():
    for case in CASES:
        try:
            check(case.raw)
        except Exception as exc:
            raise AssertionError(f"{case.name}: {exc!r}") from exc


def test_no_tool_may_change_their_line_ends():
    assert "*.eml -text" in (MAIL.parent / ".gitattributes").read_text("ascii").splitlines()
    assert b"\r\n" in (MAIL / "rfc5322-simple.eml").read_bytes()
    assert b"\r" not in (MAIL / "raw-lf.eml").read_bytes()
