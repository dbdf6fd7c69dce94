"""One "Re:", what stays of a subject, and when two are the same."""

import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agentmail.message.subject import base_subject, forward_subject, is_reply_subject, reply_subject, subject_key

VECTORS = json.loads((Path(__file__).resolve().parents[2] / "vectors" / "subjects.json").read_text("utf-8"))
# Where other programs take more away than we do, and why we do not.
DIFFERENT = {
    "walks, talks, doesn't quack [SEC=UN": "an unclosed bracket is part of the subject",
    "unmatched left] foobar [unmatched=[matched]": "an unclosed bracket is part of the subject",
    "res: rv: enc: továbbítás: hello world (doorst)": "(doorst) at the end was never seen in mail",
}


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: repr(v["input"])[:50])
def test_vector(vector):
    if vector["input"] in DIFFERENT:
        assert base_subject(vector["input"]) != vector["expected"]
    elif vector["algo"].startswith("cyrus"):
        assert vector["expected"].casefold() == subject_key(vector["input"])
    else:
        assert vector["expected"].casefold() == base_subject(vector["input"]).casefold()


@pytest.mark.parametrize(
    ("subject", "reply"),
    [
        ("Hello", "Re: Hello"),
        ("AW: Re: Fwd: [list] x", "Re: Fwd: [list] x"),
        ("Re[2]: x", "Re: x"),
        ("RE : x", "Re: x"),
        ("回复：x", "Re: x"),
        ("R: x", "Re: x"),
        ("R:x", "Re: R:x"),
        ("Resume: x", "Re: Resume: x"),
        ("Ref: 123", "Re: Ref: 123"),
        ("[l] Re: x", "Re: [l] Re: x"),
        ("a  b\u00a0c", "Re: a  b\u00a0c"),
        ("", "Re:"),
        ("Sv: Vs: Antw: Odp: x", "Re: x"),
    ],
)
def test_a_reply_has_one_re(subject, reply):
    assert reply == reply_subject(subject)
    assert reply == reply_subject(reply)


def test_a_forward_has_one_fwd():
    assert "Fwd: Re: x" == forward_subject("Re: x") == forward_subject("Fw: Re: x") == forward_subject("WG: Fwd: Re: x")


@example(" ")
@example("Re: \u00a0 ")
@given(
    st.text(max_size=200)
    | st.lists(st.sampled_from(["Re: ", "[x] ", "Fwd: ", "AW:", "(fwd)", "[fwd: ", "]", "a "])).map("".join)
)
def test_replying_keeps_the_key_and_is_a_fixed_point(subject):
    once = reply_subject(subject)
    assert once == reply_subject(once)
    assert is_reply_subject(once)
    assert subject_key(subject) == subject_key(once) or "=?" in subject
    assert base_subject(base_subject(subject)) == base_subject(subject) or subject_key(subject) == ""
    subject_key(subject).encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("piece", ["Re: ", "[a] ", "(fwd)", "[fwd: ", "[", "re", " ", "[EXTERNAL] ", "Re["])
def test_long_subjects_cost_little(piece):
    subject = piece * 20_000
    reply_subject(subject), forward_subject(subject), subject_key(subject), is_reply_subject(subject)
