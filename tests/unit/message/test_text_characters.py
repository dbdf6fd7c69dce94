"""Characters that nobody sees go; those that a script needs stay."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmail.message.characters import clean, on_one_line
from agentmail.message.text import visible


def tags(text: str) -> str:
    return "".join(chr(0xE0000 + ord(char)) for char in text)


REMOVED = {
    "Unicode tags": ("Hi" + tags("send it"), "Hi"),
    "tags behind an emoji": ("👋" + tags("send it"), "👋"),
    "tags behind a black flag that are no flag": ("\U0001f3f4" + tags("gbxyz") + "\U000e007f", "\U0001f3f4"),
    "variation selectors as a code": ("😀" + "".join(chr(0xE0100 + n) for n in (7, 20, 41)), "😀"),
    "two variation selectors": ("❤\ufe0f\ufe0f", "❤\ufe0f"),
    "variation selector behind a letter": ("a\ufe0fb", "ab"),
    "zero width space": ("pass\u200bword", "password"),
    "zero width joiner between letters": ("pass\u200dword", "password"),
    "zero width non-joiner between letters": ("pass\u200cword", "password"),
    "runs of non-joiners behind Persian": ("می\u200c\u200c\u200cخواهم", "میخواهم"),
    "word joiner": ("a\u2060b", "ab"),
    "byte order mark": ("\ufeffHello", "Hello"),
    "soft hyphen": ("in\u00advisible", "invisible"),
    "right-to-left override": ("file\u202etxt.exe", "filetxt.exe"),
    "isolates": ("\u2066a\u2069", "a"),
    "invisible operators": ("a\u2062b\u2063c", "abc"),
    "combining grapheme joiner": ("a\u034fb", "ab"),
    "Hangul filler": ("a\u3164b\uffa0c\u115f", "abc"),
    "Mongolian vowel separator": ("a\u180eb", "ab"),
    "control characters": ("a\x00b\x07c\x1b[31md\x7f\x9b", "abc[31md"),
    "half a character": ("a\ud800b", "ab"),
    "interlinear annotation": ("a\ufff9b\ufffac\ufffb", "abc"),
    "joiner at the end of an emoji": ("😀\u200d", "😀"),
    "shorthand controls": ("a\U0001bca0b", "ab"),
}


@pytest.mark.parametrize("case", REMOVED)
def test_unseen_characters_go_and_are_counted(case: str) -> None:
    text, expected = REMOVED[case]
    assert (expected, len(text) - len(expected)) == clean(text)


KEPT = {
    "family": "👨\u200d👩\u200d👧",
    "heart on fire": "❤\ufe0f\u200d🔥",
    "skin tone": "👩🏽\u200d🚀",
    "rainbow flag": "🏳\ufe0f\u200d🌈",
    "pirate flag": "\U0001f3f4\u200d☠\ufe0f",
    "England": "\U0001f3f4" + tags("gbeng") + "\U000e007f",
    "Scotland": "\U0001f3f4" + tags("gbsct") + "\U000e007f",
    "Wales": "\U0001f3f4" + tags("gbwls") + "\U000e007f",
    "keycap": "1\ufe0f\u20e3",
    "text style": "☎\ufe0e",
    "Persian": "می\u200cخواهم",
    "Hindi": "क्\u200dष क्\u200cष",
    "Malayalam": "ന്\u200d",
    "Sinhala": "ශ්\u200dරී",
    "Arabic in one form": "ه\u200d",
    "accents": "e\u0301 ñ ö ß",
    "scripts": "Ελληνικά русский 日本語 한국어 עברית العربية ไทย",
    "typography": "“a” – b … c\u00a0€",
    "lines and tabs": "a\n\tb",
}


@pytest.mark.parametrize("case", KEPT)
def test_what_a_script_needs_stays(case: str) -> None:
    assert (KEPT[case], 0) == clean(KEPT[case])


def test_every_line_end_becomes_one() -> None:
    assert "a\nb\nc\nd\ne\nf" == clean("a\r\nb\rc\u2028d\u2029e\x85f")[0]


def test_html_counts_what_it_took_out() -> None:
    seen = visible("<p>Hi" + tags("send it") + "&#8203;&shy;</p>")
    assert ("Hi", 9) == (seen.text, seen.invisible_characters)


def test_a_title_is_one_line() -> None:
    assert "a b c" == on_one_line(" a\r\n\tb\u2028c\x00 ")
    assert 1_000 == len(on_one_line("x" * 9_000))


@given(st.text(max_size=200))
def test_clean_text_is_storable_and_clean(text: str) -> None:
    """Cleaning once is enough, and what comes out goes into any database and onto any terminal."""
    cleaned, removed = clean(text)
    assert removed >= 0
    assert (cleaned, 0) == clean(cleaned)
    cleaned.encode("utf-8")
    assert all(char in "\n\t" or ord(char) >= 32 for char in cleaned)


PIECES = ["\u200d", "\u200c", "\ufe0f", "😀", "❤", "a", "می", "क्", "1", "\u20e3", "\U0001f3f4", *tags("gb")]


@given(st.lists(st.sampled_from(PIECES), max_size=12))
def test_no_mixture_smuggles_more_than_one_mark_a_letter(pieces: list[str]) -> None:
    cleaned, _ = clean("".join(pieces))
    assert (cleaned, 0) == clean(cleaned)
    unseen = sum(cleaned.count(mark) for mark in ("\u200d", "\u200c", "\ufe0f"))
    assert unseen <= 2 * sum(1 for char in cleaned if char not in "\u200d\u200c\ufe0f")
