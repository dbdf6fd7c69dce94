"""What an agent wants to say, into bytes for the wire: reply, forward, new.

A reply belongs where every mail client looks for it: In-Reply-To and References by RFC 5322 3.6.4, the parent's subject
behind one "Re: ", Outlook's Thread-Index. What came from the parent is cleaned to one line; what the caller gives and
cannot be written is refused with BadInput. The bytes are final: nothing renders them again.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime

from ..errors import BadInput
from . import citing, outlook, recipients
from .ancestry import guid_of, reply_references, thread_index, thread_topic, writable
from .identifiers import make_message_id
from .models import Address, Attachment, Draft, Envelope, Message, Outgoing
from .parse import parse, safe_name
from .recipients import CONTROL, check_address, read_address
from .subject import forward_subject, reply_subject
from .wire import HeaderBlock, MimePart, media_type, multipart, text_part, write
from .words import one_line

__all__ = ["check_address", "forward", "new", "read_address", "reply", "reply_references"]

MAX_RECIPIENTS = 500
MAX_SUBJECT = 2_000
"""Characters of an incoming subject that a reply repeats."""

_CONTENT_ID = re.compile(r"[!-;=?-~]{1,200}\Z")
_SUPPRESS = "DR, RN, NRN, OOF, AutoReply"
"""What Exchange shall not answer ([MS-OXCMAIL] 2.1.3.2.20). Not NDR, so not "All" either: bounces are wanted."""


def reply(
    original: Message,
    text: str | None = None,
    *,
    sender: Address | str,
    html: str | None = None,
    to: Iterable[Address | str] | None = None,
    reply_all: bool = False,
    without: Collection[str] = (),
    cc: Iterable[Address | str] = (),
    attachments: Sequence[Attachment] = (),
    quote: bool = False,
    footer: str | None = None,
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
    Trap: Reply-To is the sender's wish and may lead to somebody else; whether that may be followed is `policy`'s
    business.

    Args:
        to: Instead of whom the message asks replies to go to.
        without: Addresses to leave out of a reply to all, such as those that nobody reads.
        own_addresses: Further addresses of ours.
        ancestors: The messages above `original`, in any order, as far as they are known: one of them may carry the
            Thread-Index that `original` lacks.
        quote: Put the original below the text, as mail clients do; always as text, never its markup.
        footer: Stands below the text and the HTML, above what is quoted; not twice.
        automatic: Say that a machine wrote it (RFC 3834), so that other machines do not answer.
        utf8: The server offers SMTPUTF8: addresses whose local part is not ASCII may be written.
        secret: Makes the Message-ID provably ours (see `identifiers.make_message_id`).
        now, token: The clock and 17 random bytes; the system's when left out.

    Raises:
        BadInput: something given cannot be written, or nobody is left to write to.
    """
    writing = _Writing.begin(sender, utf8=utf8, message_id=message_id, secret=secret, now=now, token=token)
    own = {writing.sender.key, *(a.lower() for a in own_addresses)}
    if to is None:
        first, others = recipients.of_reply(original, own, reply_all=reply_all, utf8=utf8, without=without)
    else:
        first, others = recipients.given(to, utf8=utf8), []
    taken = {a.key for a in (*first, *others)}
    others += recipients.given(cc, without=taken, utf8=utf8)
    bodies = citing.footed(citing.both(text, html, empty=bool(attachments)), footer)
    if quote:
        bodies = citing.quoted(original, bodies)
    in_reply_to, references = reply_references(original)
    headers = writing.headers(first, others, reply_subject(one_line(original.subject[:MAX_SUBJECT])))
    headers.ids("In-Reply-To", in_reply_to)
    headers.ids("References", references)
    if topic := thread_topic(original):
        headers.text("Thread-Topic", topic)
    headers.token("Thread-Index", thread_index(original, ancestors, now=writing.now, random=writing.token[0]))
    if automatic:
        writing.say_automatic(headers, "auto-replied", original)
    return writing.finish(headers, (*first, *others), bodies, attachments)


def new(
    draft: Draft,
    *,
    sender: Address | str,
    footer: str | None = None,
    automatic: bool = True,
    utf8: bool = False,
    message_id: str | None = None,
    secret: bytes | None = None,
    now: datetime | None = None,
    token: bytes | None = None,
) -> Outgoing:
    """Start a new thread. Bcc recipients stand in the envelope and nowhere else. Arguments as for `reply`.

    Raises:
        BadInput: something given cannot be written, or there is nobody to write to.
    """
    writing = _Writing.begin(sender, utf8=utf8, message_id=message_id, secret=secret, now=now, token=token)
    subject = draft.subject.replace("\t", " ")
    if bad := CONTROL.search(subject):
        raise BadInput(
            f"the subject contains U+{ord(bad[0]):04X}, a line break or another control character: give it on one line"
        )
    first = recipients.given(draft.to, utf8=utf8)
    others = recipients.given(draft.cc, without={a.key for a in first}, utf8=utf8)
    hidden = recipients.given(draft.bcc, without={a.key for a in (*first, *others)}, utf8=utf8)
    bodies = citing.footed(citing.both(draft.text, draft.html, empty=bool(draft.attachments)), footer)
    headers = writing.headers(first, others, subject)
    if topic := thread_topic(Message(subject=subject)):
        headers.text("Thread-Topic", topic)
    headers.token("Thread-Index", outlook.write(outlook.fresh(writing.now, guid_of(writing.message_id))))
    if automatic:
        writing.say_automatic(headers, "auto-generated", None)
    return writing.finish(headers, (*first, *others, *hidden), bodies, draft.attachments)


def forward(
    original: Message,
    *,
    to: Iterable[Address | str],
    text: str = "",
    sender: Address | str,
    html: str | None = None,
    original_raw: bytes | None = None,
    whole: bool = False,
    footer: str | None = None,
    cc: Iterable[Address | str] = (),
    automatic: bool = True,
    utf8: bool = False,
    message_id: str | None = None,
    secret: bytes | None = None,
    now: datetime | None = None,
    token: bytes | None = None,
) -> Outgoing:
    """Send a message on to somebody else, with its attachments, in a thread of its own.

    It names no ancestors: the answer of whom it goes to is theirs, and must not land in the thread it was taken from.

    Args:
        original_raw: The bytes of `original`: its attachments are read from them when `original` came out of a store.
        whole: Attach the message itself as a file, unchanged, instead of its attachments.

    Raises:
        BadInput: something given cannot be written, or an attachment has no content and `original_raw` is missing.
    """
    writing = _Writing.begin(sender, utf8=utf8, message_id=message_id, secret=secret, now=now, token=token)
    first = recipients.given(to, utf8=utf8)
    others = recipients.given(cc, without={a.key for a in first}, utf8=utf8)
    bodies = citing.forwarded(original, citing.footed(citing.both(text, html, empty=True), footer))
    attachments = [a.model_copy(update={"inline": False}) for a in original.attachments]
    if whole:
        if original_raw is None:
            raise BadInput("forward: whole=True needs original_raw=, the bytes of the message")
        name = safe_name(f"{one_line(original.subject)[:60].strip() or 'message'}.eml")
        attachments = [Attachment(name=name, content=original_raw, size=len(original_raw))]
    elif original_raw is not None and any(a.content is None for a in attachments):
        attachments = [a.model_copy(update={"inline": False}) for a in parse(original_raw).attachments]
    subject = forward_subject(one_line(original.subject[:MAX_SUBJECT]))
    headers = writing.headers(first, others, subject)
    if topic := thread_topic(Message(subject=subject)):
        headers.text("Thread-Topic", topic)
    headers.token("Thread-Index", outlook.write(outlook.fresh(writing.now, guid_of(writing.message_id))))
    if automatic:
        writing.say_automatic(headers, "auto-generated", original)
    return writing.finish(headers, (*first, *others), bodies, attachments)


@dataclass(frozen=True, slots=True)
class _Writing:
    """What every message of ours has, fixed before its first header is written."""

    sender: Address
    message_id: str
    now: datetime
    token: bytes
    secret: bytes | None
    utf8: bool

    @classmethod
    def begin(
        cls, sender: Address | str, *, utf8: bool, message_id: str | None, secret: bytes | None, now: datetime | None,
        token: bytes | None,
    ) -> _Writing:  # fmt: skip
        (me,) = recipients.given([sender], utf8=utf8)
        if now is not None and now.tzinfo is None:
            raise BadInput("now needs a time zone")
        random = token if token is not None else secrets.token_bytes(17)
        domain = check_address(me.email, utf8=utf8).rpartition("@")[2]
        identifier = message_id or make_message_id(domain, secret=secret, now=now, token=random)
        if not writable(identifier):
            raise BadInput(f"{identifier[:100]!r} cannot be written as a Message-ID: it must look like <left@right>")
        return cls(me, identifier, now if now is not None else datetime.now(UTC), random, secret, utf8)

    def headers(self, to: Sequence[Address], cc: Sequence[Address], subject: str) -> HeaderBlock:
        """From, To, Cc, Subject, Date, Message-ID."""
        block = HeaderBlock()
        block.addresses("From", [self.sender], utf8=self.utf8)
        block.addresses("To", to, utf8=self.utf8)
        if not to and not cc:
            block.token("To", "undisclosed-recipients:;")
        block.addresses("Cc", cc, utf8=self.utf8)
        block.text("Subject", subject)
        block.token("Date", format_datetime(self.now))
        block.ids("Message-ID", [self.message_id])
        return block

    def say_automatic(self, headers: HeaderBlock, kind: str, original: Message | None) -> None:
        """RFC 3834 5.2, what Exchange looks at, and our own count of hops against loops between agents."""
        headers.token("Auto-Submitted", kind)
        headers.token("X-Auto-Response-Suppress", _SUPPRESS)
        earlier = re.search(r";\s*hop=(\d{1,4})\b", (original.header("x-agentmail-loop") or "") if original else "")
        hop = int(earlier[1]) + 1 if earlier else 1
        tag = hmac.digest(self.secret or b"", f"{self.message_id};{hop}".encode(), "sha256").hex()[:20]
        headers.token("X-Agentmail-Loop", f"{tag};hop={hop}")

    def finish(
        self, headers: HeaderBlock, people: Sequence[Address], bodies: citing.Bodies, attachments: Sequence[Attachment]
    ) -> Outgoing:
        rcpt_to = tuple(dict.fromkeys(check_address(a.email, utf8=self.utf8) for a in people))
        if not rcpt_to:
            raise BadInput("nobody to write to: there is no usable address besides our own; name one with to=")
        if len(rcpt_to) > MAX_RECIPIENTS:
            raise BadInput(f"{len(rcpt_to)} recipients: one message goes to {MAX_RECIPIENTS} at most")
        boundary = hashlib.sha256(b"boundary" + self.token + self.message_id.encode()).hexdigest()[:24]
        raw = write(headers, _body(bodies, attachments), boundary=boundary, utf8=self.utf8)
        mail_from = check_address(self.sender.email, utf8=self.utf8)
        return Outgoing(raw=raw, envelope=Envelope(mail_from=mail_from, rcpt_to=rcpt_to), message_id=self.message_id)


def _body(bodies: citing.Bodies, attachments: Sequence[Attachment]) -> MimePart:
    """alternative(text, HTML); related around the HTML for images it shows; mixed around all for the other files."""
    text, html = bodies
    shown = [a for a in attachments if a.inline and a.content_id and f"cid:{a.content_id}" in html]
    html_part = text_part("html", html)
    if shown:
        html_part = multipart("related", [html_part, *(_attached(a, inline=True) for a in shown)], type="text/html")
    body = multipart("alternative", [text_part("plain", text), html_part])
    others = [_attached(a) for a in attachments if not any(a is one for one in shown)]
    return multipart("mixed", [body, *others]) if others else body


def _attached(attachment: Attachment, *, inline: bool = False) -> MimePart:
    if attachment.content is None:
        raise BadInput(
            f"attachment {one_line(attachment.name)!r} has no content: load it first "
            "(`await inbox.attachment(id)`), or give forward() the original's bytes"
        )
    content_id = attachment.content_id or ""
    if inline and not _CONTENT_ID.match(content_id):
        raise BadInput(f"attachment {one_line(attachment.name)!r}: {content_id!r} cannot be written as a Content-ID")
    return MimePart(
        media_type(attachment.content_type),
        content=attachment.content,
        disposition="inline" if inline else "attachment",
        filename=safe_name(attachment.name),
        content_id=content_id if inline else "",
    )
