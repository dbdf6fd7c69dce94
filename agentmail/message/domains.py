"""Domain names in ASCII: labels of other scripts become `xn--…` (RFC 5891), without the tables of contexts.

Python's own codec implements the older IDNA 2003, which sends `straße.example` to `strasse.example`: somebody else's.
"""

from __future__ import annotations

import re
import unicodedata

_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)\Z")


def ascii_domain(domain: str) -> str | None:
    """The name in ASCII, its case kept where it was ASCII; None when it is no domain name."""
    if len(domain) > 1_000:
        return None
    text = unicodedata.normalize("NFKC", domain).replace("\u3002", ".")
    labels = [label if label.isascii() else _punycode(label) for label in text.split(".")]
    name = ".".join(labels)
    return name if len(name) <= 255 and all(map(_LABEL.match, labels)) else None


def address_key(email: str) -> str:
    """The form of an address to compare and to look up by: lower case, the domain in ASCII.

    The local part is case-sensitive by RFC 5321 2.4, but no provider that people use treats it so.
    Never casefold(): see `same_domain`.
    """
    if email.isascii():
        return email.lower()
    local, at, domain = email.rpartition("@")
    return local.lower() + at + (ascii_domain(domain) or domain).lower()


def same_domain(one: str, other: str) -> bool:
    """Whether two names are one domain, in ASCII or not; what is empty or no name equals nothing.

    Never by casefold(): it makes "ss" of "ß", and the two are different domains since IDNA 2008.
    """
    if not (one.isascii() and other.isascii()):
        one, other = ascii_domain(one) or "", ascii_domain(other) or ""
    return one != "" and one.lower() == other.lower()


def _punycode(label: str) -> str:
    text = unicodedata.normalize("NFC", label.lower())
    for i, char in enumerate(text):
        kind = unicodedata.category(char)
        if not (kind[0] in "LM" or kind == "Nd" or char in "-\u00b7\u30fb") or (i == 0 and kind[0] == "M"):
            return ""
    return "xn--" + text.encode("punycode").decode("ascii")
