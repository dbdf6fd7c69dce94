"""The frozen values: they do not change, they survive JSON, and they keep secrets of size out of it."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from agentmail.message.models import Address, Attachment, Message


def test_a_message_is_frozen() -> None:
    message = Message(message_id="<a@b>")
    with pytest.raises(ValidationError):
        message.subject = "changed"  # type: ignore[misc]


def test_a_message_survives_json() -> None:
    message = Message(
        id="m1", thread="t1", message_id="<a@b>", references=("<r@b>",), sender=Address(name="Ana", email="a@b"),
        text="hello\n> quoted", headers=(("X-A", "1"), ("X-A", "2")), defects=("no-date",),
    )  # fmt: skip
    again = Message.model_validate_json(message.model_dump_json())
    assert again == message
    assert again.new_text == message.new_text


def test_new_text_is_kept_and_not_worked_out_again() -> None:
    again = Message.model_validate({"text": "whole", "new_text": "part"})
    assert again.new_text == "part"


def test_attachment_bytes_stay_out_of_json_and_repr() -> None:
    attachment = Attachment(name="a.bin", content=b"\xffcanary")
    assert "canary" not in attachment.model_dump_json() + repr(attachment)


def test_headers_are_found_in_any_case() -> None:
    message = Message(headers=(("X-One", "1"), ("x-one", "2")))
    assert message.header("X-ONE") == "1"
    assert message.header_all("x-one") == ("1", "2")
    assert message.header("none") is None


@pytest.mark.parametrize(
    ("address", "key", "domain", "shown"),
    [
        (Address(name="Ana", email="Ana@Example.ORG"), "ana@example.org", "example.org", "Ana <Ana@Example.ORG>"),
        (Address(email="a@b@c.d"), "a@b@c.d", "c.d", "a@b@c.d"),
        (Address(name="x", email=""), "", "", "x <>"),
    ],
)
def test_addresses(address: Address, key: str, domain: str, shown: str) -> None:
    assert (address.key, address.domain, str(address)) == (key, domain, shown)


def test_people_are_sender_to_and_cc_but_not_reply_to() -> None:
    one, two, three, four = (Address(email=f"{n}@x") for n in "abcd")
    message = Message(sender=one, to=(two,), cc=(three,), reply_to=(four,))
    assert list(message.people()) == [one, two, three]
