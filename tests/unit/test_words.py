"""The words of a text are cut by a table of characters; what it says is what five passes over the text would say."""

from __future__ import annotations

import unicodedata

from hypothesis import example, given
from hypothesis import strategies as st

from agentmail.store import words

SECONDS = sorted(
    {chr(int(unicodedata.decomposition(chr(c)).split()[-1], 16)) for c in range(0x3400)
     if unicodedata.decomposition(chr(c)) and unicodedata.decomposition(chr(c))[0] != "<"}
)  # fmt: skip
"""Characters that become one with the one before them."""
ANY = st.characters(exclude_categories=("Cs",))


@given(st.text(ANY | st.sampled_from([*SECONDS, "\u1100", "\u1161", "\u11a8", "\uff76", "\uff9e", "\u3131", "a", " "])))
@example("Gru\u0308\u00dfe, \u041a\u0438\u0435\u0432 \u6771\u4eac\u3067 \uac00\u1102\u1161 \uff76\uff9e")
def test_the_table_says_what_the_passes_say(text: str) -> None:
    passes = words._LONG.sub(r"\1", words._spelled_out(text)).split()
    assert words.normalised(text).split() == passes


@given(st.lists(st.integers(1, 200), min_size=1))
def test_a_word_is_cut_wherever_it_stands(lengths: list[int]) -> None:
    text = " ".join("x" * n for n in lengths)
    assert words.normalised(text).split() == ["x" * min(n, words.LONGEST) for n in lengths]
