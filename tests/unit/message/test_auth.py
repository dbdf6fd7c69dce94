# ruff: noqa: E501
"""The sender is verified only when a trusted server said so, where that server says it; otherwise not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmail.message.auth import Auth, verdict

OURS = "mx.ours.example"
TRUSTED = (OURS,)
PASS = f"{OURS}; spf=pass smtp.mailfrom=bank.example; dkim=pass header.d=bank.example; dmarc=pass header.from=bank.example"
BORDER = ("Received", f"from out.bank.example (out.bank.example [192.0.2.1]) by {OURS} (Postfix) with ESMTPS id 1; Tue")
LOCAL = ("Received", "from mx.ours.example by mail.ours.example with LMTP id 2; Tue")
STRANGER = ("Received", "from laptop by smtp.evil.example with ESMTPSA id 3; Tue")
FROM = ("From", "The Bank <info@bank.example>")
AR = "Authentication-Results"


def look(*headers: tuple[str, str], trusted: tuple[str, ...] = TRUSTED, domain: str = "bank.example") -> Auth | None:
    return verdict([*headers, FROM], trusted, domain)


def test_ours_is_believed() -> None:
    """1. The header of our own border, above its Received line."""
    auth = look((AR, PASS), BORDER, STRANGER)
    assert Auth(server=OURS, spf="pass", dkim="pass", dmarc="pass", domain="bank.example") == auth
    assert auth is not None and auth.verified


NOT_OURS = {
    "2. a foreign server": [(AR, PASS.replace(OURS, "mx.evil.example")), BORDER],
    "3. ours, but it came with the mail": [BORDER, (AR, PASS), STRANGER],
    "3. ours, below a stranger's hop": [BORDER, STRANGER, (AR, PASS)],
    "3. ours, below a second line that claims our name": [BORDER, BORDER, (AR, PASS)],
    "4. our name in a comment": [(AR, PASS.replace(OURS, f"mx.evil.example ({OURS})")), BORDER],
    "4. our name behind a comment": [(AR, f"(x) {PASS}"), BORDER],
    "5. our name in quotes": [(AR, PASS.replace(OURS, f'"{OURS}"')), BORDER],
    "6. our name as the beginning of another": [(AR, PASS.replace(OURS, f"{OURS}.evil.example")), BORDER],
    "6. our name as the end of another": [(AR, PASS.replace(OURS, f"evil-{OURS}")), BORDER],
    "6. our name with a slash behind it": [(AR, PASS.replace(OURS, f"{OURS}/evil.example")), BORDER],
    "6. our name and another": [(AR, PASS.replace(OURS, f"{OURS} evil.example")), BORDER],
    "7. no name, as Exchange writes it": [(AR, PASS.partition("; ")[2]), BORDER],
    "7. another version": [(AR, PASS.replace(OURS, f"{OURS} 2")), BORDER],
    "8. a forged ARC seal": [("ARC-Authentication-Results", f"i=1; {PASS}"), BORDER],
    "9. a forged Received-SPF": [("Received-SPF", "pass (mx.ours.example: domain of bank.example)"), BORDER],
    "10. two From lines": [(AR, PASS), BORDER, ("From", "other@evil.example")],
    "11. a name with spaces inside": [(AR, PASS.replace(OURS, "mx. ours.example")), BORDER],
    "12. a look-alike header": [("X-Authentication-Results", PASS), ("Authentication_Results", PASS), BORDER],
    "13. a HELO name that claims to be a hop inside": [
        ("Received", f"from by localhost (x [192.0.2.1]) by {OURS} with ESMTP"),
        (AR, PASS),
    ],
    "13. a comment that claims local delivery": [
        ("Received", f"from x (with LMTP) by {OURS} with ESMTP"),
        (AR, PASS),
    ],
    "14. no header at all": [BORDER],
}


@pytest.mark.parametrize("case", NOT_OURS)
def test_anything_else_says_nothing(case: str) -> None:
    assert look(*NOT_OURS[case]) is None


def test_two_addresses_in_one_from_are_nobody() -> None:
    """RFC 7489 6.6.1."""
    for value in ("a@bank.example, b@evil.example", "A <a@bank.example>, B <b@evil.example>", "a@bank.example b@evil.example"):
        assert verdict([(AR, PASS), BORDER, ("From", value)], TRUSTED, "bank.example") is None


def test_an_address_in_the_display_name_is_no_second_author() -> None:
    auth = verdict([(AR, PASS), BORDER, ("From", '"x@y.example" <info@bank.example>')], TRUSTED, "bank.example")
    assert auth is not None and auth.verified


def test_the_topmost_of_ours_counts() -> None:
    """What is forged below our own header changes nothing."""
    failed = PASS.replace("dmarc=pass", "dmarc=fail")
    auth = look((AR, failed), BORDER, (AR, PASS))
    assert auth is not None and auth.dmarc == "fail" and not auth.verified
    auth = look((AR, failed), (AR, PASS), BORDER)
    assert auth is not None and not auth.verified


UNVERIFIED = {
    "a pass inside a reason": f'{OURS}; dmarc=fail reason="x; dmarc=pass header.from=bank.example" header.from=bank.example',
    "a pass inside a comment": f"{OURS}; dmarc=fail (dmarc=pass header.from=bank.example) header.from=bank.example",
    "a pass inside a nested comment": f"{OURS}; dmarc=fail (a (b) ; dmarc=pass header.from=bank.example)",
    "a comment that is never closed": f"{OURS}; (dmarc=fail; dmarc=pass header.from=bank.example",
    "a quote that is never closed": f'{OURS}; dmarc=fail reason="x; dmarc=pass header.from=bank.example',
    "a quote closed by a quoted backslash": f'{OURS}; dmarc=none reason="\\"; dmarc=pass header.from=bank.example; x="',
    "a pass for another domain": f"{OURS}; dmarc=pass header.from=evil.example",
    "a pass for a subdomain": f"{OURS}; dmarc=pass header.from=x.bank.example",
    "a pass for no domain": f"{OURS}; dmarc=pass",
    "a pass for two domains": f"{OURS}; dmarc=pass header.from=bank.example header.from=evil.example",
    "two verdicts": f"{OURS}; dmarc=pass header.from=bank.example; dmarc=fail header.from=bank.example",
    "a result in quotes": f'{OURS}; dmarc="pass" header.from=bank.example',
    "a result nobody knows": f"{OURS}; dmarc=passed header.from=bank.example",
    "a method with something in front": f"{OURS}; x dmarc=pass header.from=bank.example",
    "a pass as a property": f"{OURS}; spf=fail dmarc=pass header.from=bank.example",
    "no results": f"{OURS}; none",
    "only DKIM": f"{OURS}; dkim=pass header.d=bank.example",
    "temperror": f"{OURS}; dmarc=temperror header.from=bank.example",
    "the domain only begins like it": f"{OURS}; dmarc=pass header.from=bank.example.evil.example",
}


@pytest.mark.parametrize("case", UNVERIFIED)
def test_nothing_but_a_clear_pass_verifies(case: str) -> None:
    auth = look((AR, UNVERIFIED[case]), BORDER)
    assert auth is not None
    assert not auth.verified


READABLE = {
    "capitals": PASS.upper(),
    "version": PASS.replace(OURS, f"{OURS} 1"),
    "comments as Gmail writes them": f"{OURS}; dmarc=pass (p=NONE sp=NONE dis=NONE) header.from=bank.example",
    "method version": f"{OURS}; dmarc/1=pass header.from=bank.example",
    "spaces around =": f"{OURS} ; dmarc = pass header.from = bank.example",
    "a reason in quotes": f'{OURS}; dmarc=pass reason="all well" header.from="bank.example"',
    "an address as the property": f"{OURS}; dmarc=pass header.from=info@bank.example",
}


@pytest.mark.parametrize("case", READABLE)
def test_other_spellings_of_a_pass(case: str) -> None:
    auth = look((AR, READABLE[case]), BORDER)
    assert auth is not None and auth.verified


def test_hops_inside_do_not_hide_the_border() -> None:
    """Local delivery, loopback filters and hosts that the operator names stand above the verdict."""
    inside = ("Received", "from localhost by localhost (Postfix) with ESMTP id 4")
    relay = ("Received", f"from {OURS} by relay.ours.example with ESMTP id 5")
    assert look(LOCAL, inside, (AR, PASS), BORDER) is not None
    assert look(relay, (AR, PASS), BORDER) is None
    assert look(relay, (AR, PASS), BORDER, trusted=(OURS, "relay.ours.example")) is not None


def test_gmail_writes_below_its_own_received_line() -> None:
    value = PASS.replace(OURS, "mx.google.com")
    hops = [("Received", "by 2002:a05:6402:1 with SMTP id 1"), ("Received", "from x by mx.google.com with ESMTPS id 2")]
    auth = look(*hops, (AR, value), trusted=("mx.google.com",))
    assert auth is not None and auth.verified
    assert look(*hops, STRANGER, (AR, value), trusted=("mx.google.com",)) is None


def test_nobody_is_trusted_by_default() -> None:
    assert look((AR, PASS), BORDER, trusted=()) is None


def test_two_thousand_headers_change_nothing() -> None:
    forged = [(AR, PASS.replace(OURS, f"mx{number}.evil.example")) for number in range(2_000)]
    assert look(*forged, BORDER) is None
    auth = look(*forged, (AR, PASS.replace("pass", "fail")), *forged, (AR, PASS), BORDER)
    assert auth is not None and not auth.verified


def test_the_worst_of_two_spf_and_the_best_of_two_dkim_results() -> None:
    auth = look((AR, f"{OURS}; spf=pass; spf=softfail; dkim=fail; dkim=pass; dmarc=none"), BORDER)
    assert Auth(server=OURS, spf="softfail", dkim="pass", dmarc="none", domain="bank.example") == auth


PIECES = st.sampled_from([OURS, ";", "dmarc", "=", "pass", "fail", '"', "(", ")", "\\", " ", "header.from", "bank.example", "reason"])


@given(st.lists(PIECES, max_size=30).map("".join))
def test_any_value_is_read_and_a_pass_is_spelt_out(value: str) -> None:
    """Whatever the value is, a pass needs the method, the result and the domain in it."""
    auth = look((AR, value), BORDER)
    if auth is not None and auth.verified:
        assert value.startswith(OURS)
        assert all(word in value for word in ("dmarc", "pass", "header.from", "bank.example"))


@given(st.lists(st.tuples(st.sampled_from([AR, "Received", "From"]), st.text(max_size=80)), max_size=8))
def test_never_raises(headers: list[tuple[str, str]]) -> None:
    verdict(headers, TRUSTED, "bank.example")
