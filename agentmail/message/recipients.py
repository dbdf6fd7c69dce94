"""Who a message goes to: checking addresses before they meet SMTP, and whom a reply addresses."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence

from ..errors import BadInput
from .addresses import read_addresses
from .domains import ascii_domain
from .models import Address, Message
from .words import one_line

CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""What would end a line somewhere, or is no character: C0, DEL, C1, LS, PS, halves of a surrogate pair."""
MAX_NAME = 200
"""Characters of a display name that came with mail; what is longer is no name."""

_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_DOT_ATOM = re.compile(rf"{_ATEXT}(?:\.{_ATEXT})*\Z")
_DOTS = re.compile(rf"(?:{_ATEXT}|\.)+\Z")
_QUOTED = re.compile(r'"(?:[ !#-\[\]-~]|\\[ -~])*"\Z')
_LITERAL = re.compile(r"\[[A-Za-z0-9.:]{2,60}\]\Z")
_UTF8_LOCAL = re.compile(r"""[^\s"\\<>()\[\],;:@]+\Z""")


def check_address(text: str, *, utf8: bool = False) -> str:
    """The address as it goes on the wire, its domain in ASCII (RFC 5891), or BadInput.

    Nothing is cut or guessed: what is not `local@domain` is refused, since parsers that repair have sent mail to
    others (CVE-2023-27043). A local part with dots where RFC 5321 allows none (docomo had them) is quoted.

    Args:
        utf8: Allow a local part that is not ASCII; the server must offer SMTPUTF8 (RFC 6531).
    """
    if CONTROL.search(text):
        raise BadInput(f"address {shown(text)} contains a line break or another control character")
    local, at, domain = text.strip().rpartition("@")
    if not at or not local or not domain:
        raise BadInput(f"address {shown(text)} is not local@domain")
    if not _LITERAL.match(domain):
        name = ascii_domain(domain)
        if name is None:
            longer = ": it is longer than 255 bytes" if len(domain) > 255 else ""
            raise BadInput(f"{shown(domain)} is no domain name{longer}")
        domain = name
    if len(local.encode()) > 64:  # RFC 5321 4.5.3.1.1
        raise BadInput(f"address {shown(text)}: the part before the @ is longer than 64 bytes")
    if _DOT_ATOM.match(local) or _QUOTED.match(local):
        return f"{local}@{domain}"
    if _DOTS.match(local):
        return f'"{local}"@{domain}'
    if not local.isascii() and _UTF8_LOCAL.match(local):
        if utf8:
            return f"{unicodedata.normalize('NFC', local)}@{domain}"
        raise BadInput(
            f"address {shown(text)} needs SMTPUTF8, which is not in use: the part before the @ must be ASCII"
        )
    raise BadInput(f"address {shown(text)}: {shown(local)} cannot stand before an @")


def read_address(text: str) -> Address:
    """`"Ana Ruiz <ana@example.org>"` or `"ana@example.org"` as an Address; BadInput when it is neither."""
    if CONTROL.search(text):
        raise BadInput(f"address {shown(text)} contains a line break or another control character")
    found, wrong = read_addresses(text)
    if wrong or len(found) != 1 or not found[0].email:
        raise BadInput(f"address {shown(text)} is not one address")
    address = Address(name=found[0].name, email=found[0].email)
    check_address(address.email, utf8=True)
    return address


def given(people: Iterable[Address | str], *, without: Collection[str] = (), utf8: bool = False) -> list[Address]:
    """Addresses that the caller gave, each once: what cannot be written is refused, never skipped."""
    if isinstance(people, (str, Address)):
        people = (people,)
    seen = set(without)
    kept: list[Address] = []
    for one in people:
        person = read_address(one) if isinstance(one, str) else one
        if CONTROL.search(person.name):
            raise BadInput(f"the name of {shown(person.email)} contains a line break or another control character")
        check_address(person.email, utf8=utf8)
        if person.key not in seen:
            seen.add(person.key)
            kept.append(person)
    return kept


def found(people: Iterable[Address], *, without: Collection[str] = (), utf8: bool = False) -> list[Address]:
    """Addresses that stood in mail, each once: what cannot be written is skipped, names are put on one line."""
    seen = set(without)
    kept: list[Address] = []
    for person in people:
        try:
            check_address(person.email, utf8=utf8)
        except BadInput:
            continue
        if person.key not in seen:
            seen.add(person.key)
            kept.append(Address(name=one_line(person.name[:MAX_NAME]), email=person.email))
    return kept


def of_reply(
    original: Message, own: Collection[str], *, reply_all: bool, utf8: bool = False, without: Collection[str] = ()
) -> tuple[list[Address], list[Address]]:
    """To and Cc of a reply (RFC 5322 3.6.3): Reply-To, else From; a reply to our own mail goes to whom that went.

    Our own addresses are left out, and Bcc is never looked at: whoever got a blind copy was not addressed. So are those
    in `without`, but where the message itself asks for the reply.
    """
    ours = original.outgoing or (original.sender is not None and original.sender.key in own)
    author = (original.sender,) if original.sender is not None else ()
    wanted: Sequence[Address] = original.to if ours else original.reply_to or author
    to = found(wanted, without={*own, *without} if ours else own, utf8=utf8)
    if not to and not ours:
        to = found(author, without=own, utf8=utf8)  # Reply-To led nowhere, or back to ourselves
    if not to and ours:
        to = found(original.cc, without={*own, *without}, utf8=utf8)
    taken = {*own, *without, *(a.key for a in to)}
    cc = found((*original.to, *original.cc), without=taken, utf8=utf8) if reply_all else []
    return to, cc


def shown(text: str) -> str:
    """For an error message: on one line, in quotes, cut."""
    line = one_line(text)
    return repr(line if len(line) <= 100 else line[:100] + "…")
