"""The key by which a message is known again must not change: stores hold it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agentmail.message.parse import parse
from agentmail.store.arrivals import content_key, without_line_ends

ODD = st.text(st.sampled_from("ab \t\n\r\v\f\x1c\x1d\x1e\x1f\x85\u2028\xa0é"), max_size=30)


@given(ODD | st.text(max_size=60))
def test_the_short_way_gives_what_the_long_way_gives(text: str) -> None:
    assert without_line_ends(text) == "\n".join(line.rstrip() for line in text.splitlines()).strip()


def test_the_key_of_a_message_is_what_older_versions_wrote() -> None:
    raw = (
        b"From: Ana <ana@x.example>\nDate: Thu, 1 Jan 2026 10:00:00 +0000\nMessage-ID: <a@x.example>\n"
        b"Subject: two  words\n\none  \ntwo\t\n\n"
    )
    assert content_key(parse(raw)) == "32a62cbb7619d9f6dcbe57dd54237c458a7802b1"
