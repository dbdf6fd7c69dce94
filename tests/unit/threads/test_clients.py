"""Predictions agree with what is documented or measured of each client, vector by vector."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agentmail.message.compose import reply
from agentmail.message.models import Address, Message
from agentmail.message.parse import parse
from agentmail.testing.people import Person
from agentmail.threads.clients import CLIENTS, confidence, predict

VECTORS = Path(__file__).parents[2] / "vectors" / "threads"
NOW = datetime(2026, 5, 14, 9, 30, tzinfo=UTC)
NAMES = {"gmail": "gmail", "outlook_exo": "outlook", "outlook-exo": "outlook", "apple_mail": "apple",
         "thunderbird": "thunderbird", "jmap": "fastmail", "JMAP": "fastmail"}  # fmt: skip

NOT_OURS = {
    # The vector says that m3 is a conversation of its own. m2 changed the subject before it, in another client: in a
    # mailbox that holds m2, the model puts m3 with it (an id outranks Thread-Index). Neither puts it with m1.
    ("real-exchange-online-new-guid-when-subject-changed-0", "outlook_exo"),
    ("real-exchange-online-new-guid-when-subject-changed-2", "outlook_exo"),
}
# The vector tells RFC 8621's suggestion. Cyrus drops everything in brackets, and these subjects are nothing else.
CYRUS_IS_NOT_JMAP = {"publicinbox-debbugs-gap"}


def _message(raw: dict) -> Message:
    names = {"id": "Message-ID", "in_reply_to": "In-Reply-To", "references": "References", "subject": "Subject",
             "date": "Date", "from": "From", "to": "To", "thread_index": "Thread-Index",
             "thread_topic": "Thread-Topic"}  # fmt: skip
    lines = [f"{header}: {' '.join(raw[key].split())}" for key, header in names.items() if raw.get(key)]
    return parse(("\r\n".join(lines) + "\r\n\r\nHi\r\n").encode())


def _cases():
    for path in sorted(VECTORS.glob("[a-z]*.json")):
        vector = json.loads(path.read_text("utf-8"))
        for name, expected in vector.get("expected_by", {}).items():
            if name in NAMES and expected.get("threads") and vector["name"] not in CYRUS_IS_NOT_JMAP:
                yield pytest.param(vector, name, expected["threads"], id=f"{path.stem}-{name}")


@pytest.mark.parametrize(("vector", "name", "threads"), list(_cases()))
def test_the_groups_that_a_client_makes(vector, name, threads):
    messages = [_message(m) for m in vector["messages"]]
    keys = {m.message_id: raw["key"] for m, raw in zip(messages, vector["messages"], strict=True)}
    got = [[keys[i] for i in group] for group in predict(messages)[NAMES[name]]]
    if (vector["name"], name) in NOT_OURS:
        assert not any({"m1", "m3"} <= set(group) for group in got)
        return
    assert sorted(map(sorted, threads)) == sorted(map(sorted, got))


def test_doubt_is_said_where_the_sources_disagree():
    vector = json.loads((VECTORS / "doc-re-subject-only-no-references-same-people-within-week.json").read_text("utf-8"))
    sure = confidence([_message(m) for m in vector["messages"]])
    assert "low" == sure["gmail"] == sure["apple"]
    assert "high" == sure["thunderbird"]
    assert set(CLIENTS) == set(sure)


@pytest.mark.parametrize(
    "client", ["gmail", "outlook", "outlook-desktop", "apple", "ios", "thunderbird", "yahoo", "mutt"]
)
def test_every_client_groups_what_people_and_our_agent_wrote_into_one(client):
    """The point of it all: a shared reference and the same base subject satisfy every client that we know."""
    ana = Person("ana@example.org", "Ana Ruiz", client=client)
    messages = [parse(ana.write("bot@example.com", "Angebot für Mai", "Hello", now=NOW))]
    for turn in range(1, 13):
        at = NOW + timedelta(days=turn)
        if turn % 2:
            raw = reply(messages[-1], "ok", sender="bot@example.com", ancestors=messages[:-1], now=at).raw
        else:
            raw = ana.reply(messages[-1], "and?", now=at)
        messages.append(parse(raw))
    for name, groups in predict(messages).items():
        assert [[m.message_id for m in messages]] == groups, name


def test_one_hundred_and_one_messages_are_two_conversations_in_gmail_and_one_in_apple_mail():
    root = Message(message_id="<r@x>", subject="s", sent_at=NOW)
    more = [
        Message(message_id=f"<{i}@x>", references=("<r@x>",), subject="Re: s", sent_at=NOW + timedelta(minutes=i))
        for i in range(1, 101)
    ]
    groups = predict([root, *more])
    assert [100, 1] == [len(g) for g in groups["gmail"]]
    assert [101] == [len(g) for g in groups["apple"]]


def test_clients_that_know_no_order_group_the_same_in_any():
    sender = Address(email="a@x.org")
    a, b, c = (Message(message_id=f"<{n}@x>", sender=sender, subject="s") for n in "abc")
    c = c.model_copy(update={"references": ("<a@x>", "<b@x>")})
    for order in itertools.permutations([a, b, c]):
        for client in ("apple", "thunderbird"):
            assert [{"<a@x>", "<b@x>", "<c@x>"}] == [set(g) for g in predict(order)[client]]


def test_many_messages_with_one_id_and_one_subject_are_no_matter():
    messages = [Message(message_id=f"<{i}@x>", references=("<r@x>", f"<p{i}@x>"), subject="s") for i in range(5_000)]
    assert 1 == len(predict(messages)["thunderbird"])
