"""Domain names in ASCII, and when two of them are one."""

from __future__ import annotations

import pytest

from agentmail import Account, Address
from agentmail.message.auth import verdict
from agentmail.message.domains import address_key, ascii_domain, same_domain
from agentmail.message.identifiers import make_message_id


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("example.org", "example.org"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("bu\u0308cher.example", "xn--bcher-kva.example"),
        ("straße.example", "xn--strae-oqa.example"),
        ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
        ("пример.рф", "xn--e1afmkfd.xn--p1ai"),
        ("☃.example", None),
        ("\u0308a.example", None),
        ("a..b", None),
        ("-a.example", None),
        ("a" * 64 + ".example", None),
        ("ü" * 2_000, None),
        ("", None),
    ],
)
def test_a_name_in_ascii(name: str, written: str | None) -> None:
    assert ascii_domain(name) == written


def test_one_domain_in_two_ways() -> None:
    assert same_domain("Example.org", "example.ORG")
    assert same_domain("bücher.example", "XN--BCHER-KVA.example")


def test_two_owners_are_two() -> None:
    """Registries sell both names; casefold() makes one of them."""
    assert not same_domain("straße.example", "strasse.example")
    assert Address(email="ana@straße.example").key != Address(email="ana@strasse.example").key
    assert Address(email="ana@STRASSE.example").key == Address(email="Ana@strasse.example").key
    assert make_message_id("straße.example", token=bytes(16)).endswith("@xn--strae-oqa.example>")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Ana@Example.ORG", "ana@example.org"),
        ("ana@bücher.example", "ANA@xn--bcher-kva.EXAMPLE"),
        ("Äna@bücher.example", "äna@BÜCHER.example"),
    ],
)
def test_one_address_in_two_ways(one: str, other: str) -> None:
    assert address_key(one) == address_key(other) == Address(email=one).key
    account = Account(address=one, imap_host="localhost", smtp_host="localhost")
    assert address_key(other) == account.key
    assert account.own_addresses == {account.key}


def test_nothing_is_no_domain() -> None:
    assert not same_domain("", "")
    assert not same_domain("☃.example", "☃.example")


@pytest.mark.parametrize(
    ("said", "shown", "verified"),
    [
        ("xn--bcher-kva.example", "bücher.example", True),
        ("bücher.example", "xn--bcher-kva.example", True),
        ("strasse.example", "straße.example", False),
        ("", "", False),
    ],
)
def test_a_verdict_about_a_domain_of_another_script(said: str, shown: str, verified: bool) -> None:
    """A border writes the name in ASCII, or as RFC 8616 allows; From may hold either."""
    results = f"mx.example; dmarc=pass header.from={said}"
    auth = verdict([("Authentication-Results", results), ("From", f"ana@{shown}")], {"mx.example"}, shown)
    assert auth is not None
    assert auth.verified is verified
