"""The key by which a message is known again must not change: stores hold it."""

from __future__ import annotations

from agentmail.message.parse import parse
from agentmail.store.arrivals import content_key


def test_the_key_of_a_message_is_what_older_versions_wrote() -> None:
    raw = (
        b"From: Ana <ana@x.example>\nDate: Thu, 1 Jan 2026 10:00:00 +0000\nMessage-ID: <a@x.example>\n"
        b"Subject: two  words\n\none  \ntwo\t\n\n"
    )
    assert content_key(parse(raw)) == "32a62cbb7619d9f6dcbe57dd54237c458a7802b1"
