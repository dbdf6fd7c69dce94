"""When to try again, and which mailbox is which."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmail.errors import AuthenticationFailed, Throttled, Unreachable
from agentmail.mailsync.pacing import LONGEST, Backoff, after_failure, is_about_a_token, refusal
from agentmail.mailsync.roles import mailbox_for
from agentmail.store.positions import Connectivity


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_pauses_grow_to_five_minutes_and_chance_takes_half_at_most(chances: list[float]) -> None:
    backoff = Backoff()
    for n, chance in enumerate(chances):
        pause = backoff.failed(chance)
        full = min(LONGEST, 2.0 * 1.5**n)
        assert full / 2 <= pause <= full


def test_only_a_connection_that_lived_resets_the_pause() -> None:
    backoff = Backoff(failures=7)
    backoff.survived(299)
    assert 7 == backoff.failures
    backoff.survived(300)
    assert 0 == backoff.failures


def test_three_refusals_and_the_account_is_left_alone_until_the_credentials_change() -> None:
    known, now = Connectivity(), 1000.0
    for n in range(3):
        known = after_failure(known, AuthenticationFailed("no"), secret="s1", now=now)
        assert isinstance(refusal(known, secret="s1", now=now, account="a"), AuthenticationFailed), n
        now = known.until + 1
    assert "needs_auth" == known.state
    assert isinstance(refusal(known, secret="s1", now=now + 1e9, account="a"), AuthenticationFailed)
    assert refusal(known, secret="s2", now=now, account="a") is None


def test_a_token_is_asked_again_now_and_then_for_it_is_another_one_by_then() -> None:
    """Not so with a password, which stays what it was."""
    known, now, pauses = Connectivity(), 1000.0, list[float]()
    for _ in range(8):
        known = after_failure(known, AuthenticationFailed("no"), secret="s1", now=now, token="t1")
        assert isinstance(refusal(known, secret="s1", now=known.until - 1, account="a"), AuthenticationFailed)
        assert refusal(known, secret="s1", now=known.until, account="a") is None
        assert refusal(known, secret="s2", now=now, account="a") is None, "another login counts at once"
        pauses.append(known.until - now)
        now = known.until
    assert [60, 300, 900, 1800, 3600, 3600, 3600, 3600] == pauses
    assert "needs_auth" == known.state


def test_another_token_is_tried_at_once_and_one_that_is_made_anew_each_time_is_not_tried_for_ever() -> None:
    known, now, pauses = Connectivity(), 1000.0, list[float]()
    for n in range(9):
        known = after_failure(known, AuthenticationFailed("no"), secret="s1", now=now, token=f"t{n}")
        assert refusal(known, secret="s1", now=now, account="a", token=f"t{n}") is not None, "the same one is no news"
        pause = 0.0
        while refusal(known, secret="s1", now=now + pause, account="a", token=f"t{n + 1}") is not None:
            pause += 1.0
        pauses.append(pause)
        now += pause
    assert [0, 0, 60, 120, 240, 480, 900, 900, 900] == pauses


def test_where_no_token_was_to_be_had_the_first_one_counts() -> None:
    known = after_failure(Connectivity(), AuthenticationFailed("log in"), secret="s1", now=0.0, token="")
    assert is_about_a_token(known)
    assert refusal(known, secret="s1", now=1.0, account="a") is not None
    assert refusal(known, secret="s1", now=1.0, account="a", token="t1") is None


def test_a_password_is_no_token() -> None:
    known = after_failure(Connectivity(), AuthenticationFailed("no"), secret="s1", now=0.0)
    assert not is_about_a_token(known)
    assert refusal(known, secret="s1", now=1.0, account="a", token="t1") is not None


def test_the_network_does_not_change_what_is_known_of_a_password() -> None:
    refused = after_failure(Connectivity(), AuthenticationFailed("no"), secret="s", now=0.0)
    assert refused == after_failure(refused, Unreachable("gone"), secret="s", now=5.0)


@pytest.mark.parametrize(("asked", "pause"), [(30.0, 30.0), (5000.0, 900.0), (None, 60.0)])
def test_a_server_that_asks_for_a_pause_gets_it_within_reason(asked: float | None, pause: float) -> None:
    known = after_failure(Connectivity(), Throttled("slow", retry_after=asked), secret="s", now=0.0)
    assert pause == known.until
    assert isinstance(refusal(known, secret="other", now=pause - 1, account="a"), Throttled)
    assert refusal(known, secret="s", now=pause, account="a") is None


@dataclass(frozen=True)
class Box:
    name: str
    attributes: frozenset[str] = frozenset()
    delimiter: str = "/"


@pytest.mark.parametrize(
    ("boxes", "prefix", "sent"),
    [([Box("Sent"), Box("Verschickt", frozenset({r"\sent"}))], "", "Verschickt"),
     ([Box("INBOX.Sent", delimiter=".")], "INBOX.", "INBOX.Sent"),
     ([Box("[Gmail]/Gesendet"), Box("Gesendete Elemente")], "", "Gesendete Elemente"),
     ([Box("Sent", frozenset({r"\sent", r"\noselect"})), Box("Éléments envoyés")], "", "Éléments envoyés"),
     ([Box("E\u0301le\u0301ments envoye\u0301s")], "", "E\u0301le\u0301ments envoye\u0301s"),
     ([Box("INBOX"), Box("Απεσταλμένα")], "", "Απεσταλμένα"), ([Box("Elküldött elemek")], "", "Elküldött elemek"),
     ([Box("INBOX")], "", None)],
)  # fmt: skip
def test_sent_is_found_by_use_then_by_name(boxes: list[Box], prefix: str, sent: str | None) -> None:
    assert sent == mailbox_for("sent", boxes, prefix)
