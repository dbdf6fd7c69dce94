"""SPF, DKIM and DMARC verdicts, only from a mail server that the operator trusts (RFC 8601).

Anybody can write `Authentication-Results: …; dmarc=pass` into their own mail, so the header proves nothing by
itself. It counts only when it names a server that the operator trusts, stands where that server writes, and can
be read without doubt. In every other case the answer is "not verified": this module fails closed.

What it cannot see: a border that adds no such header and leaves a forged one in place. RFC 8601 5 obliges a border
to remove forged ones; name only servers that do.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise

from pydantic import BaseModel, ConfigDict

from .domains import same_domain

_MAX_VALUE = 16_384
"""Characters of one Authentication-Results value; real ones stay under 2,000."""
_MAX_TOKENS = 2_000
_MAX_HOPS = 30
_RESULTS = frozenset(
    ("none", "pass", "fail", "softfail", "neutral", "policy", "temperror", "permerror", "hardfail", "bestguesspass")
)
_WORST_FIRST = ("fail", "hardfail", "softfail", "permerror", "temperror", "policy", "neutral", "none", "bestguesspass")
"""For methods that speak once about a message: two answers are a contradiction, and the worse one counts."""


class Auth(BaseModel):
    """What a trusted server verified about the sender."""

    model_config = ConfigDict(frozen=True)

    server: str
    """The authserv-id that said so."""
    spf: str = "none"
    dkim: str = "none"
    """`pass` when one signature holds. Trap: it may be anybody's signature; only DMARC ties it to From."""
    dmarc: str = "none"
    domain: str = ""
    """The From domain that DMARC spoke about."""

    @property
    def verified(self) -> bool:
        """True only when DMARC passed for the domain in From."""
        return self.dmarc == "pass"


def verdict(headers: Sequence[tuple[str, str]], trusted: Collection[str], from_domain: str) -> Auth | None:
    """What the topmost header of a trusted server says about From; None when no trusted server said anything.

    `headers` stand in the order of the message, `trusted` holds authserv-ids as the servers write them, and
    `from_domain` is the domain of the From address that will be shown.

    A border writes its Received line first and its verdict above that line, so a verdict counts only above the first
    Received line of a border: what stands below it may have come with the mail. Lines of local delivery (LMTP), of
    `localhost` and address literals, and of other hosts named in `trusted`, are hops inside our own system.
    """
    if not trusted:
        return None
    known = {server.casefold() for server in trusted}
    found: tuple[str, str] | None = None
    froms: list[str] = []
    hops: list[str] = []
    for name, value in headers:
        match len(name):
            case 22 if found is None and name.casefold() == "authentication-results":
                server = _server(value)
                if server in known and not any(_is_border(hop, server, known) for hop in hops):
                    found = (server, value)
            case 8 if found is None and len(hops) < _MAX_HOPS and name.casefold() == "received":
                hops.append(value)
            case 4 if name.casefold() == "from":
                froms.append(value)
    if found is None or len(froms) != 1 or _names_several(froms[0]):
        # RFC 7489 6.6.1: with two authors nobody can say whom DMARC spoke about.
        return None
    server, value = found
    return _read(server, value, from_domain.lower().rstrip("."))


# ---------------------------------------------------------------------------------------------------------------------

_SERVER = re.compile(r"[ \t]*([A-Za-z0-9!#$%&'*+/^_`{|}~.-]{1,255})(?:[ \t]+1)?[ \t]*(?:;|$)")
_LOCAL = re.compile(r"\bwith[ \t]+LMTP", re.IGNORECASE)
_WRITES_BELOW = {"mx.google.com": "google.com"}
"""Servers that put their verdict under their own Received line and are known to remove forged ones, with the domain
of their hosts."""
_BY = re.compile(r"\bby[ \t]+([A-Za-z0-9.:_\[\]-]{1,255})", re.IGNORECASE)


def _server(value: str) -> str:
    """The authserv-id (RFC 8601 2.2), lower case, or "" when it is written in any unusual way.

    Comments and quoted strings are allowed there, but no known server uses them, and a border that removes forged
    headers may not recognise them: they are what an attacker would write.
    """
    match = _SERVER.match(value)
    return match[1].casefold() if match else ""


def _is_border(received: str, server: str, known: Collection[str]) -> bool:
    """Whether mail from outside can have come in by this Received line, seen from a verdict of `server` below it."""
    line = _without_comments(received[:_MAX_VALUE])
    hosts = [host.casefold().strip("[].") for host in _BY.findall(line)]
    # More than one "by" can be a HELO name that tries to be one: then every one of them has to be ours.
    return not hosts or not all(_is_inside(host, line, server, known) for host in hosts)


def _is_inside(host: str, line: str, server: str, known: Collection[str]) -> bool:
    if host == "localhost" or host.endswith(".internal") or ":" in host or host.replace(".", "").isdigit():
        return True
    home = _WRITES_BELOW.get(server)
    if home is not None:
        return host == home or host.endswith("." + home)
    return bool(_LOCAL.search(line)) or (host in known and host != server)


def _names_several(value: str) -> bool:
    """Whether a From value holds more than one address, quoted strings and comments aside."""
    bare = re.sub(r'"(?:[^"\\]|\\.)*+"?', "", _without_comments(value[:_MAX_VALUE]))
    if "<" in bare:
        return bare.count("<") > 1 or "@" in bare.rpartition(">")[2] or "," in bare.rpartition(">")[2]
    return bare.count("@") > 1


def _without_comments(value: str) -> str:
    """Drop (nested (comments)), respecting quoted strings and backslashes (RFC 5322 3.2.2)."""
    if "(" not in value:
        return value
    out: list[str] = []
    depth = 0
    quoted = False
    escaped = False
    for char in value:
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = True
        elif char == '"' and depth == 0:
            quoted = not quoted
        elif char == "(" and not quoted:
            depth += 1
            continue
        elif char == ")" and depth and not quoted:
            depth -= 1
            out.append(" ")
            continue
        if depth == 0:
            out.append(char)
    return "".join(out)


_TOKEN = re.compile(r'"((?:[^"\\]|\\.)*+)("?)|([;=])|([^\s;="]+)', re.DOTALL)


def _tokens(value: str) -> Iterator[tuple[str, str]]:
    """`("word" | "mark" | "text" | "open", value)`.

    A quoted string is a "text" and can never be a method or a result; one that is never closed is an "open".
    """
    for match in _TOKEN.finditer(value):
        quoted, closed, mark, word = match.groups()
        if mark:
            yield "mark", mark
        elif word:
            yield "word", word
        else:
            yield ("text" if closed else "open"), quoted or ""


def _read(server: str, value: str, from_domain: str) -> Auth:
    """Read the results (RFC 8601 2.2): `method=result [reason=…] [ptype.property=value …]`, separated by ";"."""
    unread = Auth(server=server)
    if len(value) > _MAX_VALUE:
        return unread
    statements: list[list[tuple[str, str]]] = [[]]
    for count, token in enumerate(_tokens(_without_comments(value))):
        if count > _MAX_TOKENS or token[0] == "open":
            return unread
        if token == ("mark", ";"):
            statements.append([])
        else:
            statements[-1].append(token)
    results: dict[str, list[str]] = {"spf": [], "dkim": [], "dmarc": []}
    for statement in statements[1:]:
        method, result, properties = _statement(statement)
        if method not in results:
            continue
        if result not in _RESULTS:
            result = "permerror"
        if method == "dmarc" and result == "pass" and not same_domain(properties.get("header.from", ""), from_domain):
            # A pass about another domain says nothing about the From that is shown.
            result = "none"
        results[method].append(result)
    dmarc = _worst(results["dmarc"])
    return Auth(
        server=server,
        spf=_worst(results["spf"]),
        dkim="pass" if "pass" in results["dkim"] else _worst(results["dkim"]),
        dmarc=dmarc,
        domain=from_domain if results["dmarc"] else "",
    )


def _statement(tokens: list[tuple[str, str]]) -> tuple[str, str, dict[str, str]]:
    """`(method, result, properties)` of one statement, "" for what is not there."""
    method = result = ""
    properties: dict[str, str] = {}
    for (position, (kind, text)), (_, after) in pairwise([*enumerate(tokens), (len(tokens), ("end", ""))]):
        if (kind, text) != ("mark", "=") or position == 0:
            continue
        before_kind, name = tokens[position - 1]
        if before_kind != "word" or after[0] not in {"word", "text"}:
            continue
        if position == 1:
            if after[0] != "word":
                return "", "", {}
            method, result = name.casefold().partition("/")[0], after[1].casefold()
        elif name.casefold() != "reason":
            domain = after[1].lower().rpartition("@")[2].rstrip(".")
            if properties.setdefault(name.casefold(), domain) != domain:
                properties[name.casefold()] = ""
    return method, result, properties


def _worst(results: Sequence[str]) -> str:
    for bad in _WORST_FIRST:
        if bad in results:
            return bad
    return "pass" if results else "none"
