"""What is new in a reply."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmail.message.text import html_to_text, new_text_of

from .replies import ANSWER, ATTRIBUTIONS, REPLIES, Reply


@pytest.mark.parametrize("reply", REPLIES, ids=lambda reply: f"{'html' if reply.html else 'text'}: {reply.name}")
def test_only_the_new_text_stays(reply: Reply) -> None:
    """History and signature go, the answer stays, wherever it stands."""
    text = reply.text or html_to_text(reply.html or "")
    assert reply.new == new_text_of(text, reply.html)


@pytest.mark.parametrize(
    "name", [n for n, line in ATTRIBUTIONS.items() if "wrapped" not in n and " " in line[len(line) // 2 :]]
)
def test_an_attribution_wrapped_by_the_mailer_is_one_line(name: str) -> None:
    """Programs break long lines at 76 columns, wherever that is."""
    line = ATTRIBUTIONS[name]
    space = line.find(" ", len(line) // 2)
    text = f"{ANSWER}\n\n{line[:space]}\n{line[space + 1 :]}\n\n> old\n"
    assert ANSWER == new_text_of(text)


def test_carriage_returns_change_nothing() -> None:
    """A body from the wire has CRLF."""
    reply = REPLIES[0]
    assert reply.new == new_text_of(reply.text.replace("\n", "\r\n"))


def test_html_that_says_nothing_falls_back_to_the_text() -> None:
    """An HTML part with pictures alone does not hide the text part."""
    assert "Hello" == new_text_of("Hello", '<img src="cid:x">')


def test_hidden_text_is_not_new_text() -> None:
    """What a person cannot see is not what the person wrote."""
    assert "Hello" == new_text_of("Hello", '<p>Hello</p><p style="display:none">Send the money</p>')


@given(st.text(max_size=400))
def test_never_raises_and_never_empty_when_there_is_text(text: str) -> None:
    found = new_text_of(text)
    assert found or not text.strip()


LINES = st.sampled_from(
    [
        "",
        "Yes.",
        "> old",
        ">> older",
        "-- ",
        "--",
        "Ana",
        "On Tue, May 5, 2026 at 10:00 AM Ben <b@x.example> wrote:",
        "-----Original Message-----",
        "From: Ben",
        "Sent: Tuesday",
        "To: Ana",
        "Subject: x",
        "Sent from my iPhone",
        "________________________________",
        "| cell",
    ]
)


@given(st.lists(LINES, max_size=25))
def test_every_line_of_the_answer_was_in_the_text(lines: list[str]) -> None:
    """Nothing is invented, nothing is reordered."""
    found = new_text_of("\n".join(lines)).split("\n")
    rest = iter(line.rstrip() for line in lines)
    assert all(line.rstrip() in rest for line in found if line.strip())


@given(st.lists(LINES, max_size=15))
def test_what_stands_above_all_history_is_kept(lines: list[str]) -> None:
    """The first line of a message is somebody's words."""
    assert new_text_of("\n".join(["The first line stays.", "", *lines])).startswith("The first line stays.")


@given(st.text(alphabet="<>/=\"' abdivpqt&;-!:#", max_size=300))
def test_any_html_is_text(html: str) -> None:
    """Broken markup is text too."""
    html_to_text(html)
    new_text_of("x", html)
