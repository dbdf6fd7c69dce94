"""Ids out of real header values, the form to compare by, and new ones."""

import hashlib
import json
import re
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmail import parse
from agentmail.errors import BadInput
from agentmail.message import identifiers
from agentmail.message.identifiers import MAX_IDS, find_ids, is_ours, make_message_id, normalise

VECTORS = json.loads((Path(__file__).resolve().parents[2] / "vectors" / "msgids.json").read_text("utf-8"))
SECRET = b"0123456789abcdef"


def _kind(vector):
    phrase = re.match(r'[A-Z"]', vector["input"]) and "<" in vector["input"]
    bare = "<" not in vector["input"] and "In-Reply-To" not in vector.get("note", "") and "=?" not in vector["input"]
    return "in-reply-to" if phrase else "own" if bare else "references"


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: repr(v["input"])[:50])
def test_vector(vector):
    found = find_ids(vector["input"], _kind(vector))
    expected = list(dict.fromkeys(vector["expected"]))
    got = [normalise(one)[1:-1] for one in found.ids]
    if "In-Reply-To without brackets" in vector.get("note", ""):
        got = [one[1:-1] for one in found.bare]  # usable only when a stored message owns it
    if vector["algo"] == "recommended":
        got = [one for one in got if "@" in one]  # the others count only when a stored message owns them: placement
    if "\t" in vector["input"] and vector["algo"] == "cyrus lenient":
        expected = ["foo@bar"]  # white space inside brackets came from folding
    assert expected == got


def test_a_quoted_id_stays_fit_for_a_header_and_equals_its_plain_form():
    assert ('<"a b"@x>',) == find_ids('<"a b"@x>', "own").ids
    assert ("<ab@x>",) == find_ids('<"ab"@x>', "own").ids
    assert normalise('<"01KF8"@x>') == normalise("<01KF8@x>")
    assert normalise("<A@x>") != normalise("<a@x>")


def test_of_too_many_references_the_first_and_the_last_stay():
    found = find_ids(" ".join(f"<{n}@x>" for n in range(500)), "references")
    assert (MAX_IDS, True, "<0@x>", "<499@x>") == (len(found.ids), found.cut, found.ids[0], found.ids[-1])


def test_an_unclosed_comment_hides_nothing():
    assert ("<a@b>",) == find_ids("(oops <a@b>", "references").ids
    assert ("<c@d>",) == find_ids("(was <a@b>) <c@d>", "references").ids


@given(
    st.text(max_size=300) | st.text(alphabet='<>@()"\\ab, \t', max_size=200),
    st.sampled_from(["own", "in-reply-to", "references"]),
)
def test_any_value_gives_ids_that_can_be_written_again(value, kind):
    found = find_ids(value, kind)
    for one in (*found.ids, *found.bare):
        assert one[0] == "<" and one[-1] == ">" and len(one) > 2
        assert not re.search("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", one)
        one.encode("utf-8")
        assert (one,) == find_ids(one, "own").ids or '"' in one


SHORT, MIDDLE, LONG = "example.com", "mail.some-company.example", "post.a-very-long-name-of-a-company.example"
DOMAINS = st.sampled_from((SHORT, MIDDLE, LONG))


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=80), DOMAINS)
def test_a_made_id_is_ours_with_its_secret_only(token, secret, domain):
    made = make_message_id(domain, secret=secret, token=token)
    assert is_ours(made, secret) and not is_ours(made, secret + b"x")
    assert re.fullmatch(r"<[A-Za-z0-9]+@[a-z0-9.-]+>", made)
    assert domain != SHORT or made.lower() == made
    assert not is_ours(made.replace(f"@{domain}", f"@{domain[:-3]}xyz"), secret)
    assert (made,) == find_ids(made, "own").ids


@pytest.mark.parametrize(("secret", "fits"), [(None, 39), (SECRET, 28)])
def test_an_id_has_64_characters_where_the_domain_leaves_room(secret, fits):
    """And beside a longer domain it is not longer than it must be, and ours all the same."""
    for length in range(1, 70):
        domain = "x" * min(length, 60) + ".y" * ((length - 60) // 2)
        made = make_message_id(domain, secret=secret, token=b"\xff" * 16)
        assert len(made) <= max(64, 64 - fits + len(domain))
        assert secret is None or is_ours(made, secret)


def test_different_tokens_make_different_ids():
    tokens = [bytes(16), b"\0" * 15 + b"\1", b"\1" + b"\0" * 15, b"\xff" * 16]
    for secret in (None, SECRET):
        for domain in (SHORT, MIDDLE, LONG):
            assert len({make_message_id(domain, secret=secret, token=token) for token in tokens}) == len(tokens)


def test_ids_that_were_made_before_are_still_ours():
    """Stores hold them: 26 letters and a tag of 16, whatever the domain."""
    for domain in (SHORT, MIDDLE, LONG):
        state = hashlib.blake2b(domain.encode() + b"\0", key=SECRET, digest_size=16, person=b"message-id")
        state.update(b"a" * 26)
        tag = state.digest().translate(b"abcdefghijklmnopqrstuvwxyz234567" * 8).decode()
        assert is_ours(f"<{'a' * 26}{tag}@{domain}>", SECRET)
        assert is_ours(f"<{'a' * 26}{tag}.1767312000@{domain}>", SECRET)
        assert not is_ours(f"<{'b' * 26}{tag}@{domain}>", SECRET)


def test_the_shorter_tag_counts_only_where_there_is_no_room_for_the_longer_one():
    left = identifiers._short_keyed(bytes(16), SHORT, SECRET)
    assert not is_ours(f"<{left}@{SHORT}>", SECRET)
    left = identifiers._short_keyed(bytes(16), MIDDLE, SECRET)
    assert is_ours(f"<{left}@{MIDDLE}>", SECRET)
    assert is_ours(f"<{left}@{MIDDLE.upper()}>", SECRET)
    assert not is_ours(f"<{'z' * 33}@{MIDDLE}>", SECRET)


def test_a_long_id_of_ours_comes_back_from_a_program_that_encodes_it():
    """Python's `email` writes an id that is too long for its line as encoded words, brackets and all."""
    made = make_message_id("x" * 40 + "." + "y" * 40 + ".example", secret=SECRET)
    answer = EmailMessage()
    answer["In-Reply-To"] = made
    answer["References"] = f"<first@example.org> {made}"
    raw = answer.as_bytes()
    assert b"=?utf-8?" in raw
    message = parse(raw)
    assert message.in_reply_to == (made,) and message.references[-1] == made


@given(st.text(max_size=80))
def test_anything_else_is_not_ours(text):
    assert not is_ours(text, SECRET)


@pytest.mark.parametrize("domain", [SHORT, MIDDLE, LONG])
def test_a_changed_letter_is_noticed(domain):
    made = make_message_id(domain, secret=SECRET, token=bytes(16))
    for position in range(1, made.index("@")):
        other = "b" if made[position] != "b" else "c"
        assert not is_ours(made[:position] + other + made[position + 1 :], SECRET)


def test_the_time_is_part_of_it_when_there_is_room():
    now = datetime(2026, 1, 2, tzinfo=UTC)
    assert f"<{'00' * 16}.1767312000@example.com>" == make_message_id("example.com", token=bytes(16), now=now)
    long = "a-very-long-name-of-a-company.example.com"
    assert f"<{'0' * 22}@{long}>" == make_message_id(long, token=bytes(16), now=now)


@pytest.mark.parametrize("domain", ["", "a b", "a@b", "a>", "a\r\nb", ".a", "-a.b", "x" * 300, "[1.2.3.4]"])
def test_a_domain_that_cannot_stand_in_an_id_is_refused(domain):
    with pytest.raises(BadInput):
        make_message_id(domain)


def test_short_secrets_and_tokens_are_refused_and_domains_become_punycode():
    with pytest.raises(BadInput):
        make_message_id("a.b", secret=b"short")
    with pytest.raises(BadInput):
        make_message_id("a.b", token=b"short")
    assert make_message_id("Bücher.example").endswith("@xn--bcher-kva.example>")


def test_two_ids_are_never_the_same():
    assert 20_000 == len({make_message_id("example.com") for _ in range(20_000)})


def test_an_id_reads_back_as_it_was_read():
    """Quotes that only a control character needed go with it, or a reply would name another id than was read."""
    (once,) = find_ids('<"01JC\0\x1fF8"@example.org>', "references").ids
    assert find_ids(once, "references").ids == (once,) == ("<01JCF8@example.org>",)
