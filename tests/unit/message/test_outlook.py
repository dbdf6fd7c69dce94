"""Thread-Index: published and real values decode to the digit, and ours continue them as Exchange does."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmail.message import outlook
from agentmail.message.ancestry import guid_of, thread_index, thread_topic
from agentmail.message.models import Message

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "thread_index.json").read_text(encoding="utf-8"))
NOW = datetime(2026, 5, 14, 9, 30, tzinfo=UTC)
MOMENTS = st.datetimes(datetime(1995, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))


def _when(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


@pytest.mark.parametrize("case", VECTORS["published_examples"] + VECTORS["real_mail"], ids=lambda c: c["thread_index"])
def test_real_values_decode(case):
    index = outlook.decode(case["thread_index"])
    expected = case["decoded"]
    assert index is not None
    assert expected["variant"] == index.variant
    assert expected["guid_hex"] == index.guid.hex()
    assert expected["depth"] == len(index.levels)
    assert expected["trailing_bytes"] == index.trailing
    assert [(c["dc"], c["delta"], c["random"]) for c in expected["children"]] == [
        (level.dc, level.delta, level.random) for level in index.levels
    ]
    if index.variant != "unknown":
        assert _when(expected["header_time"]) == index.time
        assert [_when(c["time"]) for c in expected["children"]] == [level.time for level in index.levels]


@pytest.mark.parametrize("case", [c for c in VECTORS["generate"] if "child" in c], ids=lambda c: c["child"])
def test_a_child_is_the_value_that_outlook_makes(case):
    parent = outlook.read(case["parent"])
    assert parent is not None
    assert case["child"] == outlook.write(outlook.child(parent, _when(case["now"]), case["random_byte"]))


@pytest.mark.parametrize("layout", ["modern", "classic"])
def test_a_fresh_value_in_both_layouts(layout):
    case = next(c for c in VECTORS["generate"] if c.get("fresh"))
    made = outlook.fresh(_when(case["now"]), bytes.fromhex(case["guid_hex"]), classic=layout == "classic")
    assert case[layout] == outlook.write(made)


@given(MOMENTS, st.binary(min_size=16, max_size=16), st.lists(st.integers(1, 10**8), max_size=12), st.booleans())
def test_what_we_write_reads_back_to_the_same_times(begun, guid, gaps, classic):
    """Each level is as long after the one before as the replies were, within the resolution of the format."""
    data, at = outlook.fresh(begun, guid, classic=classic), begun
    moments = []
    for gap in gaps:
        at += timedelta(seconds=gap)
        if at.year > 2049:
            break
        moments.append(at)
        data = outlook.child(data, at, 0x50)
    index = outlook.decode(outlook.write(data))
    assert index is not None
    assert guid == index.guid
    assert len(moments) == len(index.levels)
    if begun.year < 1990 or begun.year > 2050:
        return
    previous = begun
    for moment, level in zip(moments, index.levels, strict=True):
        assert level.time is not None
        if moment - begun < timedelta(days=365 * 50):  # the deltas wrap after 57 years
            assert abs(level.time - moment) < timedelta(seconds=4 + 2 * len(moments)), (previous, moment)
        previous = moment


@given(st.one_of(st.text(max_size=200), st.binary(max_size=600).map(lambda b: base64.b64encode(b).decode())), MOMENTS)
def test_any_value_of_a_parent_gives_one_short_token(value, now):
    """A hostile Thread-Index can neither stop a reply nor grow its header line over the limit."""
    made = thread_index(Message(message_id="<p@x>", thread_index=value), (), now=now, random=7)
    assert made.isascii()
    assert "\n" not in made
    assert len(made) < 900
    data = outlook.read(value)
    if data is not None:
        assert outlook.read(made)[6:22] == data[6:22]


def test_a_chain_of_a_thousand_levels_stops_growing_and_keeps_its_conversation():
    parent = outlook.fresh(NOW, bytes(range(16))) + bytes(5_000)
    child = outlook.child(parent, NOW, 1)
    assert parent[:22] == child[:22]
    assert len(child) == outlook.HEADER + outlook.MAX_LEVELS * outlook.LEVEL


# -- which one a reply continues


def _message(name: str, *, parents: tuple[str, ...] = (), index: str | None = None, subject="Offer", at=NOW) -> Message:
    return Message(message_id=f"<{name}@x>", references=tuple(f"<{p}@x>" for p in parents), thread_index=index,
                   in_reply_to=(f"<{parents[-1]}@x>",) if parents else (), subject=subject, sent_at=at)  # fmt: skip


ROOT_INDEX = outlook.write(outlook.fresh(NOW - timedelta(days=3), bytes(range(16))))


def _levels(index: str) -> int:
    return (len(outlook.read(index)) - 22) // 5


def test_the_parents_own_index_is_extended_by_one_level():
    made = thread_index(_message("b", index=ROOT_INDEX), (), now=NOW, random=1)
    assert outlook.read(made)[:22] == outlook.read(ROOT_INDEX)
    assert 1 == _levels(made)


def test_an_ancestors_index_gets_one_level_per_hop_seen_or_not():
    """root has an index, a never came, b and c have none: the reply to c stands four levels below root."""
    root = _message("root", index=ROOT_INDEX)
    b = _message("b", parents=("root", "a"))
    c = _message("c", parents=("root", "a", "b"))
    for ancestors in ([root, b], [b, root], [root]):
        made = thread_index(c, ancestors, now=NOW, random=1)
        assert outlook.read(made)[:22] == outlook.read(ROOT_INDEX)
        assert 4 == _levels(made)


def test_ancestors_are_found_through_messages_that_name_only_their_parent():
    """iOS 13 to 26: References holds the direct parent and nothing else."""
    root, a, b = _message("root", index=ROOT_INDEX), _message("a", parents=("root",)), _message("b", parents=("a",))
    assert 3 == _levels(thread_index(b, [root, a], now=NOW, random=1))


def test_a_changed_subject_begins_a_new_conversation():
    root, b = _message("root", index=ROOT_INDEX), _message("b", parents=("root",), subject="Something else")
    assert outlook.read(thread_index(b, [root], now=NOW, random=1))[6:22] != outlook.read(ROOT_INDEX)[6:22]


def test_without_any_index_every_reply_in_the_thread_makes_the_same_guid():
    root, b = _message("root"), _message("b", parents=("root",))
    made = [thread_index(root, (), now=NOW, random=1), thread_index(b, [root], now=NOW, random=2),
            thread_index(b, (), now=NOW, random=3)]  # fmt: skip
    assert {guid_of("<root@x>")} == {outlook.read(m)[6:22] for m in made}


@pytest.mark.parametrize(
    ("subject", "topic"),
    [
        ("Offer", "Offer"),
        ("Re: Offer", "Offer"),
        ("AW: Offer", "Offer"),
        ("RE: 答复: Offer", "答复: Offer"),
        ("回覆: Offer", "Offer"),
        ("Fix: the pump", "Fix: the pump"),
        ("[list] Offer", "[list] Offer"),
        ("Offer\r\nBcc: v@x", "Offer Bcc: v@x"),
        ("", ""),
    ],
)
def test_a_topic_is_the_subject_without_exactly_one_prefix(subject, topic):
    assert topic == thread_topic(Message(subject=subject))


def test_a_topic_that_came_is_kept_as_it_is():
    assert "RE: odd  topic" == thread_topic(Message(subject="Re: other", thread_topic="RE: odd  topic"))
