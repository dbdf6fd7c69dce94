"""People write as their clients do; their mail reads well, and an agent's reply to any of them keeps the thread."""

from __future__ import annotations

import email
import email.policy
from datetime import UTC, datetime, timedelta

import pytest

from agentmail.errors import BadInput
from agentmail.message import outlook
from agentmail.message.compose import reply
from agentmail.message.parse import parse
from agentmail.testing.habits import HABITS
from agentmail.testing.people import Person

NOW = datetime(2026, 5, 14, 9, 30, tzinfo=UTC)
BOT = "bot@example.com"
ANSWER = "Yes, Tuesday suits me.\n\nAna"


def _asked():
    """Ana asked, the agent answered."""
    first = Person("ana@example.org", "Ana Ruiz").write(BOT, "Offer für Mai", "When?", now=NOW, token=b"0" * 16)
    return first, reply(parse(first), "On Tuesday.", sender=BOT, now=NOW + timedelta(minutes=5)).raw


@pytest.mark.parametrize("client", HABITS)
def test_a_persons_reply_reads_well_in_every_parser(client):
    first, answer = _asked()
    raw = Person("ana@example.org", "Ana Ruiz", client=client).reply(answer, ANSWER, now=NOW + timedelta(hours=1))
    message = parse(raw)
    # iOS puts a byte order mark before what it quotes.
    assert set(message.defects) <= ({"unseen-characters"} if client == "ios" else set())
    assert not email.message_from_bytes(raw, policy=email.policy.default).defects
    assert message.automated is None
    assert (parse(answer).message_id,) == message.in_reply_to
    assert message.subject.lower() == "re: offer für mai"
    assert [BOT] == [a.email for a in message.to]
    root = () if client == "ios" else (parse(first).message_id,)
    assert (*root, parse(answer).message_id) == message.references


@pytest.mark.parametrize("client", HABITS)
def test_what_is_new_in_it_is_what_the_person_wrote(client):
    _, answer = _asked()
    message = parse(Person("ana@example.org", "Ana Ruiz", client=client).reply(answer, ANSWER, now=NOW))
    assert "Yes, Tuesday suits me." == message.new_text.split("\n")[0]
    assert "On Tuesday." not in message.new_text


@pytest.mark.parametrize("client", HABITS)
def test_a_reply_to_a_person_carries_the_chain_and_the_index(client):
    _, answer = _asked()
    raw = Person("ana@example.org", "Ana Ruiz", client=client).reply(answer, ANSWER, now=NOW + timedelta(hours=1))
    person, sent = parse(raw), parse(answer)
    again = parse(reply(person, "Good.", sender=BOT, ancestors=[sent], now=NOW + timedelta(hours=2)).raw)
    assert (*person.references, person.message_id) == again.references
    assert outlook.read(sent.thread_index)[:22] == outlook.read(again.thread_index)[:22]
    assert outlook.decode(again.thread_index).levels[-1].time is not None


@pytest.mark.parametrize(("client", "kept"), [("mutt", 10), ("ios", 1), ("gmail", 41), ("outlook", 41)])
def test_each_has_its_own_idea_of_references(client, kept):
    message = parse(b"From: b@x.org\r\nMessage-ID: <p@x>\r\nReferences: "
                    + b" ".join(b"<r%d@x>" % i for i in range(40)) + b"\r\n\r\nHi\r\n")  # fmt: skip
    got = parse(Person("ana@example.org", client=client).reply(message, "x", now=NOW)).references
    assert kept == len(got)
    assert "<p@x>" == got[-1]


def test_thunderbird_keeps_the_root_and_what_fits():
    long = b" ".join(b"<r%d.%s@example.org>" % (i, b"x" * 40) for i in range(40))
    message = parse(b"From: b@x.org\r\nMessage-ID: <p@x>\r\nReferences: " + long + b"\r\n\r\nHi\r\n")
    got = parse(Person("ana@example.org", client="thunderbird").reply(message, "x", now=NOW)).references
    assert message.references[0] == got[0]
    assert "<p@x>" == got[-1]
    assert len(" ".join(got)) <= 986


def test_exchange_ids_are_eighty_characters_and_every_message_has_its_own():
    ids = {parse(Person("a@x.org", client="outlook").write(BOT, "s", "t", now=NOW)).message_id for _ in range(5)}
    assert 5 == len(ids)
    assert {80} == {len(i) for i in ids}


def test_an_unknown_client_is_named():
    with pytest.raises(BadInput, match="gmail, outlook"):
        Person("a@x.org", client="pine").write(BOT, "s", "t", now=NOW)


def test_the_same_token_gives_the_same_bytes():
    one, two = (Person("a@x.org").write(BOT, "s", "t", now=NOW, token=b"1" * 16) for _ in range(2))
    assert one == two
