"""What an agent wants to say, into bytes for the wire: reply, forward, new.

A reply belongs where every mail client looks for it: In-Reply-To and References by RFC 5322 3.6.4, the parent's subject
behind one "Re: ", Outlook's Thread-Index. What came from the parent is cleaned to one line; what the caller gives and
cannot be written is refused with BadInput. The bytes are final: nothing renders them again.
"""

from __future__ import annotations

import hashlib
import hmac
import html as html_module
import re
import secrets
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime

from ..errors import BadInput
from . import outlook
from .addresses import read_addresses
from .identifiers import MISSING_DOMAIN, make_message_id
from .models import Address, Attachment, Draft, Envelope, Message, Outgoing
from .parse import safe_name
from .subject import forward_subject, reply_subject
from .text import html_to_text
from .wire import HeaderBlock, MimePart, check_address, multipart, text_part, write
from .words import one_line

__all__ = ["check_address", "forward", "new", "read_address", "reply", "reply_references"]

MAX_REFERENCES = 50
"""Gmail and Exchange never trim; beyond this many the first and the last 49 are kept, so that the root stays."""
MAX_RECIPIENTS = 500

_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]")
_WRITABLE_ID = re.compile(r"<[!-;=?-~]{1,900}>\Z")


def read_address(text: str) -> Address:
    """`"Ana Ruiz <ana@example.org>"` or `"ana@example.org"` as an Address; BadInput when it is neither."""
    if _CONTROL.search(text):
        raise BadInput(f"address {one_line(text)!r} contains a line break or another control character")
    found, wrong = read_addresses(text)
    if wrong or len(found) != 1 or not found[0].email:
        raise BadInput(f"address {text!r} is not one address")
    address = Address(name=found[0].name, email=found[0].email)
    check_address(address.email, utf8=True)
    return address


def reply_references(original: Message) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """In-Reply-To and References of a reply to `original` (RFC 5322 3.6.4).

    A parent without an id of its own gets no In-Reply-To, and its References are passed on. A parent without References
    lends its In-Reply-To, if that is exactly one id.
    """
    own = (
        ()
        if original.message_id.endswith(f"@{MISSING_DOMAIN}>")
        else (original.message_id,) * bool(original.message_id)
    )
    ancestors = original.references or (original.in_reply_to if len(original.in_reply_to) == 1 else ())
    parent = tuple(i for i in own if _WRITABLE_ID.match(i))
    chain = tuple(
        dict.fromkeys(i for i in (*(a for a in ancestors if a not in parent), *parent) if _WRITABLE_ID.match(i))
    )
    if len(chain) > MAX_REFERENCES:
        chain = (chain[0], *chain[-(MAX_REFERENCES - 1) :])
    return parent, chain


def reply(
    original: Message,
    text: str | None = None,
    *,
    sender: Address | str,
    html: str | None = None,
    to: Iterable[Address] | None = None,
    reply_all: bool = False,
    cc: Iterable[Address] = (),
    attachments: Sequence[Attachment] = (),
    quote: bool = False,
    own_addresses: Collection[str] = (),
    ancestors: Sequence[Message] = (),
    automatic: bool = True,
    utf8: bool = False,
    message_id: str | None = None,
    secret: bytes | None = None,
    now: datetime | None = None,
    token: bytes | None = None,
) -> Outgoing:
    """Answer a message in its thread.

    It goes to Reply-To, else to From; a reply to our own mail goes to whom that went. Our own addresses are left out.

    Args:
        own_addresses: Further addresses of ours, lower case.
        ancestors: The parent of `original`, its parent and so on, as far as they are known: one of them may carry the
            Thread-Index that `original` lacks.
        quote: Put the original below the text, as mail clients do.
        automatic: Say that a machine wrote it (RFC 3834), so that other machines do not answer.
        secret: Makes the Message-ID provably ours (see `identifiers.make_message_id`).
        now, token: The clock and 17 random bytes; the system's when left out.

    Raises:
        BadInput: something given cannot be written, or nobody is left to write to.
    """
    me = _sender(sender)
    moment, random = _now(now), token if token is not None else secrets.token_bytes(17)
    own = {me.key, *(a.casefold() for a in own_addresses)}
    if to is None:
        first, others = _recipients(original, own, reply_all=reply_all)
    else:
        first, others = _distinct(to, set()), []
    others = _distinct([*others, *cc], {a.key for a in first})
    in_reply_to, references = reply_references(original)
    body_text, body_html = _both(text, html)
    if quote:
        body_text, body_html = _quoted(original, body_text, body_html)
    chain = [(m.thread_index, m.sent_at) for m in (original, *ancestors)]
    root = references[0] if references else original.message_id
    index = outlook.for_reply(chain, now=moment, guid=_guid(root), random=random[0])
    headers = HeaderBlock()
    identifier = _begin(headers, me, first, others, reply_subject(one_line(original.subject)), moment, random, secret,
                        message_id, utf8=utf8)  # fmt: skip
    headers.ids("In-Reply-To", in_reply_to)
    headers.ids("References", references)
    topic = one_line(original.thread_topic or "") or _topic(original.subject)
    if topic:
        headers.text("Thread-Topic", topic)
    headers.token("Thread-Index", index)
    if automatic:
        _say_automatic(headers, "auto-replied", original, secret, identifier)
    return _finish(headers, me, [*first, *others], body_text, body_html, attachments, identifier, random, utf8=utf8)


def new(
    draft: Draft,
    *,
    sender: Address | str,
    automatic: bool = True,
    utf8: bool = False,
    message_id: str | None = None,
    secret: bytes | None = None,
    now: datetime | None = None,
    token: bytes | None = None,
) -> Outgoing:
    """Start a new thread. Bcc recipients stand in the envelope and nowhere else. Arguments as for `reply`."""
    me = _sender(sender)
    if _CONTROL.search(draft.subject):
        raise BadInput("the subject contains a line break or another control character")
    moment, random = _now(now), token if token is not None else secrets.token_bytes(17)
    first = _distinct(draft.to, set())
    others = _distinct(draft.cc, {a.key for a in first})
    hidden = _distinct(draft.bcc, {a.key for a in (*first, *others)})
    text, html = _both(draft.text, draft.html)
    headers = HeaderBlock()
    identifier = _begin(headers, me, first, others, draft.subject, moment, random, secret, message_id, utf8=utf8)
    if draft.subject.strip():
        headers.text("Thread-Topic", one_line(draft.subject))
    headers.token("Thread-Index", outlook.write(outlook.fresh(moment, _guid(identifier))))
    if automatic:
        _say_automatic(headers, "auto-generated", None, secret, identifier)
    return _finish(
        headers, me, [*first, *others, *hidden], text, html, draft.attachments, identifier, random, utf8=utf8
    )


def forward(
    original: Message,
    *,
    to: Iterable[Address],
    text: str = "",
    sender: Address | str,
    original_raw: bytes | None = None,
    cc: Iterable[Address] = (),
    automatic: bool = True,
    utf8: bool = False,
    message_id: str | None = None,
    secret: bytes | None = None,
    now: datetime | None = None,
    token: bytes | None = None,
) -> Outgoing:
    """Send a message on to somebody else, in a thread of its own, with its attachments.

    The text is quoted below yours as clients do. With `original_raw` the whole message is attached besides, unchanged.
    """
    me = _sender(sender)
    moment, random = _now(now), token if token is not None else secrets.token_bytes(17)
    first = _distinct(to, set())
    others = _distinct(cc, {a.key for a in first})
    shown = [
        "---------- Forwarded message ----------",
        f"From: {original.sender or ''}",
        *([f"Date: {format_datetime(original.sent_at)}"] if original.sent_at else []),
        f"Subject: {original.subject}",
        f"To: {', '.join(map(str, original.to[:20]))}",
        *([f"Cc: {', '.join(map(str, original.cc[:20]))}"] if original.cc else []),
    ]
    head = "\n".join(one_line(line) for line in shown)
    body = f"{text.rstrip()}\n\n{head}\n\n{original.text}" if text.strip() else f"{head}\n\n{original.text}"
    _, html = _both(body, None)
    attachments = [a for a in original.attachments if a.content is not None]
    if original_raw is not None:
        attachments.append(Attachment(name=safe_name(f"{original.subject[:60]}.eml"), content_type="message/rfc822",
                                      content=original_raw, size=len(original_raw)))  # fmt: skip
    headers = HeaderBlock()
    subject = forward_subject(one_line(original.subject))
    identifier = _begin(headers, me, first, others, subject, moment, random, secret, message_id, utf8=utf8)
    headers.token("Thread-Index", outlook.write(outlook.fresh(moment, _guid(identifier))))
    if automatic:
        _say_automatic(headers, "auto-generated", None, secret, identifier)
    return _finish(headers, me, [*first, *others], body, html, attachments, identifier, random, utf8=utf8)


# -- who


def _sender(sender: Address | str) -> Address:
    return sender if isinstance(sender, Address) else read_address(sender)


def _recipients(original: Message, own: set[str], *, reply_all: bool) -> tuple[list[Address], list[Address]]:
    """To and Cc of a reply (RFC 5322 3.6.3)."""
    ours = original.outgoing or (original.sender is not None and original.sender.key in own)
    if ours:
        wanted: Sequence[Address] = original.to
    else:
        wanted = original.reply_to or ((original.sender,) if original.sender is not None else ())
    first = _distinct(wanted, own, strict=False)
    if not first and original.sender is not None and not ours:
        first = _distinct([original.sender], set(), strict=False)  # Reply-To led back to ourselves only
    others: list[Address] = []
    if reply_all:
        others = _distinct([*original.to, *original.cc], own | {a.key for a in first}, strict=False)
    return first, others


def _distinct(people: Iterable[Address], without: set[str], *, strict: bool = True) -> list[Address]:
    """Each address once. `strict`: what the caller gave must be writable; what a sender wrote is skipped when not."""
    seen = set(without)
    kept: list[Address] = []
    for person in people:
        if not strict:
            try:
                check_address(person.email, utf8=True)
            except BadInput:
                continue
        elif _CONTROL.search(person.name):
            raise BadInput(f"the name of {person.email} contains a control character")
        if person.key not in seen:
            seen.add(person.key)
            kept.append(person)
    return kept


# -- headers


def _now(now: datetime | None) -> datetime:
    if now is None:
        return datetime.now(UTC)
    if now.tzinfo is None:
        raise BadInput("now needs a time zone")
    return now


def _guid(seed: str) -> bytes:
    """The conversation's GUID for Outlook: the same for every reply in a thread whose root is `seed`."""
    return hashlib.sha256(seed.encode()).digest()[:16]


def _topic(subject: str) -> str:
    """Exchange's normalised subject: exactly one prefix less."""
    return (
        re.sub(r"\A\s*[^\s:\[\]]{1,12}\s?:\s+", "", one_line(subject), count=1)
        if ":" in subject[:14]
        else one_line(subject)
    )


def _begin(
    headers: HeaderBlock, me: Address, to: Sequence[Address], cc: Sequence[Address], subject: str, now: datetime,
    token: bytes, secret: bytes | None, message_id: str | None, *, utf8: bool,
) -> str:  # fmt: skip
    """From, To, Cc, Subject, Date, Message-ID; the id, made before anything is sent."""
    check_address(me.email, utf8=utf8)
    identifier = message_id or make_message_id(me.domain, secret=secret, now=now, token=token)
    if not _WRITABLE_ID.match(identifier):
        raise BadInput(f"{identifier!r} cannot be written as a Message-ID")
    headers.addresses("From", [me], utf8=utf8)
    headers.addresses("To", to, utf8=utf8)
    headers.addresses("Cc", cc, utf8=utf8)
    headers.text("Subject", subject)
    headers.token("Date", format_datetime(now))
    headers.ids("Message-ID", [identifier])
    return identifier


def _say_automatic(
    headers: HeaderBlock, kind: str, original: Message | None, secret: bytes | None, identifier: str
) -> None:
    """RFC 3834 5.2, what Exchange looks at, and our own count of hops against loops between agents."""
    headers.token("Auto-Submitted", kind)
    headers.token("X-Auto-Response-Suppress", "OOF, AutoReply")
    earlier = re.search(r";\s*hop=(\d{1,4})\b", (original.header("x-agentmail-loop") or "") if original else "")
    hop = int(earlier[1]) + 1 if earlier else 1
    tag = hmac.digest(secret or b"", f"{identifier};{hop}".encode(), "sha256").hex()[:20]
    headers.token("X-Agentmail-Loop", f"{tag};hop={hop}")


# -- bodies


def _both(text: str | None, html: str | None) -> tuple[str, str]:
    """The text and the HTML, each made of the other when only one is given. Markdown is not interpreted."""
    if text is None and html is None:
        raise BadInput("there is nothing to send: give text= or html=")
    if text is None:
        text = html_to_text(html or "")
    if html is None:
        escaped = html_module.escape(text.rstrip("\n"), quote=False)
        # Indentation survives in clients that know no `white-space`, Outlook among them.
        spaced = re.sub(r"(?m)^ +|  +", lambda m: "&nbsp;" * (len(m[0]) - 1) + " " if len(m[0]) > 1 else " ", escaped)
        html = "<!DOCTYPE html><html><body><div>" + spaced.replace("\n", "<br>\n") + "</div></body></html>"
    return text, html


def _quoted(original: Message, text: str, html: str) -> tuple[str, str]:
    """The original below the answer: an attribution line and "> ", a blockquote in the HTML."""
    who = one_line(str(original.sender or "somebody"))
    when = original.sent_at.strftime("%a, %d %b %Y at %H:%M %Z") if original.sent_at else ""
    line = f"On {when}, {who} wrote:" if when else f"{who} wrote:"
    quoted = "\n".join(f">{'' if part.startswith('>') else ' '}{part}".rstrip() for part in original.text.splitlines())
    inner = (
        original.html if original.html is not None else f"<pre>{html_module.escape(original.text, quote=False)}</pre>"
    )
    inner = re.sub(r"(?is)<!doctype[^>]*>|</?(?:html|body)\b[^>]*>|<head\b.*?</head>", "", inner)
    block = (
        f'<div class="gmail_quote"><div class="gmail_attr">{html_module.escape(line)}</div>'
        '<blockquote type="cite" class="gmail_quote" '
        'style="margin:0 0 0 .8ex;border-left:1px solid #ccc;padding-left:1ex">'
        f"{inner}</blockquote></div>"
    )
    end = html.lower().rfind("</body>")
    joined = html[:end] + block + html[end:] if end >= 0 else html + block
    return f"{text.rstrip()}\n\n{line}\n{quoted}\n", joined


def _finish(
    headers: HeaderBlock, me: Address, recipients: Sequence[Address], text: str, html: str,
    attachments: Sequence[Attachment], identifier: str, token: bytes, *, utf8: bool,
) -> Outgoing:  # fmt: skip
    rcpt_to = tuple(dict.fromkeys(check_address(a.email, utf8=utf8) for a in recipients))
    if not rcpt_to:
        raise BadInput("nobody to write to: the message has no usable address besides our own")
    if len(rcpt_to) > MAX_RECIPIENTS:
        raise BadInput(f"{len(rcpt_to)} recipients: more than {MAX_RECIPIENTS} in one mail")
    body = multipart("alternative", [text_part("plain", text), text_part("html", html)])
    inline = [_attached(a) for a in attachments if a.inline and a.content_id]
    if inline:
        body.children[1] = multipart("related", [body.children[1], *inline], type="text/html")
    others = [_attached(a) for a in attachments if not (a.inline and a.content_id)]
    if others:
        body = multipart("mixed", [body, *others])
    boundary = hashlib.sha256(b"boundary" + token).hexdigest()[:24]
    raw = write(headers, body, boundary=boundary)
    return Outgoing(
        raw=raw, envelope=Envelope(mail_from=check_address(me.email, utf8=utf8), rcpt_to=rcpt_to), message_id=identifier
    )


def _attached(attachment: Attachment) -> MimePart:
    if attachment.content is None:
        raise BadInput(f"attachment {attachment.name!r} has no content: load it first (`await inbox.attachment(id)`)")
    content_type = attachment.content_type.lower()
    if not re.fullmatch(r"[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+", content_type) or content_type.startswith(
        "multipart/"
    ):
        content_type = "application/octet-stream"
    if content_type == "message/rfc822":
        content_type = "application/octet-stream"  # RFC 2046 5.2.1 forbids to encode it, and its lines may be too long
    inline = attachment.inline and attachment.content_id
    content_id = attachment.content_id if inline else None
    if content_id and not re.fullmatch(r"[!-;=?-~]{1,200}", content_id):
        raise BadInput(f"attachment {attachment.name!r}: {content_id!r} cannot be written as a Content-ID")
    return MimePart(content_type, content=attachment.content, disposition="inline" if inline else "attachment",
                    filename=safe_name(attachment.name), content_id=content_id or "")  # fmt: skip
