"""The values that mail is made of here: Address, Attachment, Message, Draft, Envelope, Outgoing.

All are frozen. A `Message` describes one Internet message (RFC 5322) as it was received or sent; it never
changes, so it may be passed between tasks and kept. What a person could not have meant to be there (cut,
repaired, missing) is named in `defects`.
"""

from __future__ import annotations

from binascii import a2b_base64
from collections.abc import Generator, Iterable, Iterator, Mapping
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    computed_field,
    model_serializer,
    model_validator,
)

from .auth import Auth
from .automated import Automated, Bounce
from .calendar import Invitation
from .domains import address_key
from .text import Hidden, hidden, new_text_of, read, text_of


class Value(BaseModel):
    """Base of the frozen values."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    @classmethod
    def unchecked(cls, fields: dict[str, Any]) -> Self:
        """The value with exactly these fields, which must be all of them and right: nothing is validated or copied.

        For the parser, which makes every one of them itself; validation would be a tenth of its time.
        """
        value = _new(cls)
        _set_fields(value, fields)
        _set_names(value, _NAMES.get(cls) or _names(cls))
        _set_extra(value, None)
        _set_private(value, None)
        return value


_new = object.__new__
# The slots themselves: object.__setattr__ would look each of them up by its name, which takes twice as long.
_set_fields, _set_names, _set_extra, _set_private = (
    BaseModel.__dict__[slot].__set__
    for slot in ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")
)


_NAMES: dict[type[BaseModel], set[str]] = {}


def _names(cls: type[BaseModel]) -> set[str]:
    """Shared by all values that are made unchecked: they are frozen, and pydantic's copies get their own set."""
    return _NAMES.setdefault(cls, set(cls.model_fields))


class Address(Value):
    """One mail address and the name that stood beside it.

    The name is whatever the sender typed: it proves nothing, and it may contain another address.
    """

    name: str = ""
    email: str = ""
    """`local@domain` as it was written; compare with `key`. Empty when the header held no address."""

    @property
    def key(self) -> str:
        """The form to compare by: lower case, the domain in ASCII (see `address_key`)."""
        return address_key(self.email)

    @property
    def domain(self) -> str:
        """The part after the last "@", lower case; empty when there is none."""
        return self.email.rpartition("@")[2].lower() if "@" in self.email else ""

    def __str__(self) -> str:
        return f"{self.name} <{self.email}>" if self.name else self.email


class Attachment(Value):
    """A part of a message that is not its text.

    Name and type are the sender's claims. `name` is safe to use as a file name in a directory of your own:
    no separators, no control characters, no leading dot.
    """

    id: str | None = None
    """Our id in a store, such as `"a7"`; None for a message that was never filed."""
    name: str
    content_type: str = "application/octet-stream"
    size: int = 0
    """Bytes after decoding."""
    content_id: str | None = None
    """Content-ID without its angle brackets, for images that the HTML refers to as `cid:…`."""
    inline: bool = False
    content: bytes | None = Field(default=None, exclude=True, repr=False)
    """The decoded bytes; None when the message came out of a store (`await inbox.attachment("a7")`)."""

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """`content`, decoded when it is first asked for: filing and listing a mail never need it."""
            if name != "content":
                return super().__getattr__(name)
            fields = self.__dict__
            encoded = fields.get("_base64")
            if encoded is not None:
                fields.setdefault("content", a2b_base64(encoded))
                fields.pop("_base64", None)
            return fields["content"]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Attachment):
            _ = self.content, other.content
        return super().__eq__(other)

    def __hash__(self) -> int:
        return hash((self.id, self.name, self.content_type, self.size, self.content_id, self.inline))


class Message(Value):
    """One Internet message, parsed. Build it with `agentmail.parse(raw)`, which never raises.

    Everything here was written by whoever sent the mail, and none of it is proof: not the sender, not the date,
    not the text. `auth` says what your own mail server verified.
    """

    id: str | None = None
    """Our id in a store, such as `"m45"`; None for a message that was never filed."""
    thread: str | None = None
    """Our id of its thread, such as `"t12"`. After a merge an old id keeps resolving."""
    message_id: str = ""
    """The Message-ID with its angle brackets: `"<a@b>"`. Synthetic when the mail had none (see `defects`).

    Trap: it does not identify a message. Outsiders choose it, and two different mails can carry the same.
    """
    other_ids: tuple[str, ...] = ()
    """Further ids this message is known by: a second Message-ID header, `X-Google-Original-Message-ID`, …"""
    in_reply_to: tuple[str, ...] = ()
    """The ids in In-Reply-To, with brackets; almost always one or none."""
    references: tuple[str, ...] = ()
    """Its ancestors, oldest first, with brackets (RFC 5322 3.6.4). iOS sends the parent only."""
    subject: str = ""
    """Decoded, on one line."""
    sender: Address | None = None
    """From. The first address when there are several."""
    to: tuple[Address, ...] = ()
    cc: tuple[Address, ...] = ()
    reply_to: tuple[Address, ...] = ()
    """Where the sender asked replies to go. Trap: it may lead to somebody else."""
    sent_at: datetime | None = None
    """The Date header in UTC, or None when it cannot be read. The sender's clock, or their wish."""
    received_at: datetime | None = None
    """When the server took it in (INTERNALDATE), UTC; None for a message that did not come from a server."""
    text: str = ""
    """The text to read: the text/plain body, or the visible text of the HTML when there is no other."""
    html: str | None = None
    """The HTML body as it was sent. Never show it unsanitised."""
    attachments: tuple[Attachment, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    """Every header in order as `(name, value)`, decoded, each value on one line."""
    thread_index: str | None = None
    """Outlook's Thread-Index (base64) as received."""
    thread_topic: str | None = None
    automated: Automated | None = None
    """What kind of machine sent it, or None for a person. Never answer a machine that did not ask."""
    bounce: Bounce | None = None
    """What came back undelivered, when `automated` is `"bounce"`. Anybody can forge one."""
    auth: Auth | None = None
    """What a mail server that you trust verified about the sender; None when nobody you trust said anything."""
    invitation: Invitation | None = None
    """The calendar part (iTIP), if there is one."""
    defects: tuple[str, ...] = ()
    """What was missing, cut or repaired: short codes, listed in docs/reference/defects.md."""
    outgoing: bool = False
    """True when it was sent from the account itself, by an agent or by hand."""
    size: int = 0
    """Bytes of the raw message."""

    @computed_field(repr=False)  # type: ignore[prop-decorator]
    @cached_property
    def new_text(self) -> str:
        """What this person newly wrote: `text` without quoted history and signature. Never empty when text is not."""
        if not self.html:
            return new_text_of(self.text)
        reading = read(self.html)
        if "text" not in self.__dict__:
            self.__dict__["text"] = text_of(reading)
        return new_text_of(self.text, self.html, reading)

    @cached_property
    def hidden(self) -> Hidden:
        """How much of the HTML a person cannot see, and whether the plain text beside it says something else.

        Worked out when it is first asked for. Characters taken out of a plain text are the defect
        `unseen-characters`.
        """
        return hidden(self.text, read(self.html)) if self.html else Hidden()

    @model_validator(mode="wrap")
    @classmethod
    def _keep_new_text(cls, data: Any, handler: Any) -> Self:
        """Reading a dumped message back keeps its new_text instead of working it out again."""
        message: Self = handler(data)
        if isinstance(data, dict) and isinstance(data.get("new_text"), str):
            message.__dict__["new_text"] = data["new_text"]
        return message

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """`text` of a mail that is HTML alone: worked out when it is first asked for."""
            if name != "text":
                return super().__getattr__(name)
            return self.__dict__.setdefault("text", text_of(read(self.__dict__["html"])))

    @model_serializer(mode="wrap")
    def _complete(self, handler: SerializerFunctionWrapHandler):  # type: ignore[no-untyped-def]  # or it is the schema
        _ = self.text
        return handler(self)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Message):
            _ = self.text, other.text
        return super().__eq__(other)

    def __hash__(self) -> int:
        return hash((self.message_id, self.id, self.thread, self.size, self.headers))

    def __iter__(self) -> Generator[tuple[str, Any], None, None]:
        _ = self.text
        return super().__iter__()

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        _ = self.text
        return super().__repr_args__()

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        _ = update and "html" in update and self.text  # it belongs to the HTML that it was made of
        return super().model_copy(update=update, deep=deep)

    def header(self, name: str) -> str | None:
        """The first header of that name, in any case; None when there is none."""
        wanted = name.casefold()
        return next((value for key, value in self.headers if key.casefold() == wanted), None)

    def header_all(self, name: str) -> tuple[str, ...]:
        """All headers of that name, in the order they stand."""
        wanted = name.casefold()
        return tuple(value for key, value in self.headers if key.casefold() == wanted)

    @property
    def known_ids(self) -> tuple[str, ...]:
        """Every id a reply could name this message by."""
        return (self.message_id, *self.other_ids) if self.message_id else self.other_ids

    @property
    def recipients(self) -> tuple[Address, ...]:
        return (*self.to, *self.cc)

    def people(self) -> Iterator[Address]:
        """Sender, To and Cc: who takes part. Reply-To is a wish, not a participant."""
        if self.sender is not None:
            yield self.sender
        yield from self.to
        yield from self.cc


class Envelope(Value):
    """SMTP's sender and recipients (RFC 5321): who really gets the mail. Bcc exists only here."""

    mail_from: str
    """The address that bounces come back to; empty for the null sender."""
    rcpt_to: tuple[str, ...]


class Draft(Value):
    """What an agent wants to say, before it is mail."""

    to: tuple[Address, ...] = ()
    cc: tuple[Address, ...] = ()
    bcc: tuple[Address, ...] = ()
    subject: str = ""
    text: str | None = None
    html: str | None = None
    attachments: tuple[Attachment, ...] = ()


class Outgoing(Value):
    """A message that is ready for the wire. From here on its bytes never change."""

    raw: bytes = Field(repr=False)
    """CRLF, ASCII headers, lines under 998 bytes."""
    envelope: Envelope
    message_id: str
    """With its angle brackets."""
