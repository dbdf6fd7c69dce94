"""When to try again. Pure: time and chance are parameters."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import AuthenticationFailed, Throttled
from ..imap import NotServing
from ..store.positions import Connectivity

FIRST, FACTOR, LONGEST = 2.0, 1.5, 300.0
"""Seconds before the first new attempt, growing, at most five minutes."""
SURVIVAL = 300.0
"""A connection that lived as long has proved something: the next one starts without a pause again."""
PAUSE, LONGEST_PAUSE, LONGEST_ASKED = 60.0, 3600.0, 900.0
"""Seconds after a throttling that names no time; its limit; and the limit of what a server may ask for."""
UNSERVED_PAUSE, UNSERVED_FOR = 300.0, 3 * 3600.0
"""Seconds between attempts at a server that lets us in and serves nothing; after so long it is no passing trouble."""
AUTH_PAUSES = (60.0, 300.0, 900.0)
"""Seconds after each refused login. After the last refusal nobody tries until the credentials change."""
TOKEN_PAUSE = 900.0
"""Seconds after which a refused token is offered again all the same, growing to an hour: what was wrong may be mended
by then, and no account is locked for an old token."""
OTHER_TOKENS = 3
"""Tokens that may be refused one after the other, each tried at once because it is another one; then there are pauses
between them, for there are programs that make a token anew whenever they are asked."""


@dataclass
class Backoff:
    """Pauses between connections of one account. `random` gives numbers from 0 to 1."""

    failures: int = 0

    def failed(self, random: float) -> float:
        """Seconds to wait before the next attempt: half of it certain, half of it chance."""
        pause = min(LONGEST, FIRST * FACTOR**self.failures)
        self.failures = min(self.failures + 1, 50)
        return pause * (0.5 + random / 2)

    def survived(self, seconds: float) -> None:
        if seconds >= SURVIVAL:
            self.failures = 0


def after_failure(
    before: Connectivity, exc: Exception, *, secret: str, now: float, token: str | None = None
) -> Connectivity:
    """What all processes know after a connection was refused.

    Args:
        secret: What a refusal is about: a fingerprint of the password, or of the login that tokens come from.
        token: A fingerprint of the token that was offered, empty when there was none to be had; None with a password.
    """
    error = str(exc)[:500]
    login, refused, others = _marks(before)
    if isinstance(exc, AuthenticationFailed):
        known = before.state in {"refused", "needs_auth"} and login == secret
        failures = before.failures + 1 if known else 1
        mark = secret
        if token is not None:
            mark = f"{secret} {token or '-'} {others + (token != refused) if known else 1}"
        if failures >= len(AUTH_PAUSES):
            again = now + min(TOKEN_PAUSE * 2 ** min(failures - len(AUTH_PAUSES), 9), LONGEST_PAUSE)
            return Connectivity("needs_auth", failures, 0.0 if token is None else again, mark, error, now)
        return Connectivity("refused", failures, now + AUTH_PAUSES[failures - 1], mark, error, now)
    if isinstance(exc, Throttled):
        failures = before.failures + 1 if before.state == "throttled" else 1
        asked = exc.retry_after
        pause = min(asked, LONGEST_ASKED) if asked is not None else min(PAUSE * 2 ** (failures - 1), LONGEST_PAUSE)
        return Connectivity("throttled", failures, now + pause, before.secret, error, now)
    if isinstance(exc, NotServing):
        since = before.at if before.state == "unserved" else now
        failures = before.failures + 1 if before.state == "unserved" else 1
        if now - since >= UNSERVED_FOR:
            return Connectivity("needs_auth", failures, 0.0, secret, error, now)
        return Connectivity("unserved", failures, now + UNSERVED_PAUSE, secret, error, since)
    # The network says nothing about a password: what was known of it stays known.
    if before.state in {"refused", "needs_auth"} and login == secret:
        return before
    return Connectivity("unreachable", before.failures + 1 if before.state == "unreachable" else 1, 0.0, "", error, now)


def _marks(known: Connectivity) -> tuple[str, str, int]:
    """Of what was refused: the login, the token (empty with a password), and how many tokens it were in a row."""
    login, _, rest = known.secret.partition(" ")
    token, _, others = rest.partition(" ")
    return login, token, int(others or 0)


def is_about_a_token(known: Connectivity) -> bool:
    """Whether another token than the refused one would change what `refusal` says."""
    return known.state in {"refused", "needs_auth"} and bool(_marks(known)[1])


def refusal(known: Connectivity, *, secret: str, now: float, account: str, token: str = "") -> Exception | None:
    """Why no connection may be made now, or None. `token`: a fingerprint of the one that would be offered, if known."""
    login, refused, others = _marks(known)
    if known.state in {"refused", "needs_auth"} and login == secret:
        if refused and token and token != refused:
            pause = 0.0 if others < OTHER_TOKENS else min(PAUSE * 2 ** min(others - OTHER_TOKENS, 9), TOKEN_PAUSE)
            if now >= known.at + pause:
                return None
        if known.state == "needs_auth" and (not known.until or now < known.until):
            return AuthenticationFailed(
                f"{account}: not tried again, because the server refused these credentials {known.failures} times "
                f"({known.error}); change the password or log in anew"
            )
        if now < known.until:
            return AuthenticationFailed(
                f"{account}: not tried again for {known.until - now:.0f} s, because the server refused these "
                f"credentials ({known.error})"
            )
    if known.state == "unserved" and now < known.until:
        return NotServing(f"{account}: not tried again for {known.until - now:.0f} s ({known.error})")
    if known.state == "throttled" and now < known.until:
        return Throttled(
            f"{account}: the server asked for a pause, {known.until - now:.0f} s are left ({known.error})",
            retry_after=known.until - now,
        )
    return None
