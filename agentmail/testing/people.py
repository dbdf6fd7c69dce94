"""People who write and answer, each with the mail client of their choice: bytes as that client builds them.

```python
ana = Person("ana@example.org", "Ana Ruiz", client="outlook")
first = ana.write("support@example.com", "Order 17", "Where is it?", now=now)
again = ana.reply(their_answer, "Thank you.", now=now)
```

Trap: people are not agents. What they write has no trimmed, tidy headers: iOS names only its parent, mutt forgets the
root, Outlook's ids are 80 characters long, and quotes are their clients' HTML.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ..errors import BadInput
from ..message import outlook
from ..message.ancestry import thread_topic
from ..message.compose import read_address
from ..message.models import Address, Message
from ..message.parse import parse
from ..message.recipients import of_reply
from ..message.subject import reply_subject
from ..message.wire import HeaderBlock, check
from .habits import HABITS, Habits, boundary, date, transfer


@dataclass(frozen=True)
class Person:
    """Somebody with a mail address and a mail client.

    `client` is one of `gmail`, `outlook` (Exchange Online: web and new Outlook), `outlook-desktop` (over SMTP),
    `apple`, `ios`, `thunderbird`, `yahoo`, `mutt`.
    """

    address: str
    name: str = ""
    client: str = "gmail"

    def write(
        self,
        to: str | Address | Iterable[str | Address],
        subject: str,
        text: str,
        *,
        cc: Iterable[str | Address] = (),
        now: datetime | None = None,
        token: bytes | None = None,
    ) -> bytes:
        """A new message."""
        given = [to] if isinstance(to, (str, Address)) else list(to)
        people = [one if isinstance(one, Address) else read_address(one) for one in given]
        copies = [one if isinstance(one, Address) else read_address(one) for one in cc]
        moment, random = _now(now), token or secrets.token_bytes(16)
        return self._build(people, copies, subject, text, None, moment, random)

    def reply(
        self,
        original: Message | bytes,
        text: str,
        *,
        reply_all: bool = False,
        now: datetime | None = None,
        token: bytes | None = None,
    ) -> bytes:
        """The answer to a message, with the original quoted as this client does.

        Args:
            original: The message, or its bytes as they were received.
        """
        message = parse(original) if isinstance(original, bytes) else original
        to, cc = of_reply(message, {self._me.key}, reply_all=reply_all)
        subject = self._habits.re + reply_subject(message.subject).removeprefix("Re: ")
        return self._build(to, cc, subject, text, message, _now(now), token or secrets.token_bytes(16))

    @property
    def _me(self) -> Address:
        return Address(name=self.name, email=self.address)

    @property
    def _habits(self) -> Habits:
        if self.client not in HABITS:
            raise BadInput(f"client {self.client!r} is none of {', '.join(HABITS)}")
        return HABITS[self.client]

    def _build(
        self, to: Sequence[Address], cc: Sequence[Address], subject: str, text: str, original: Message | None,
        now: datetime, token: bytes,
    ) -> bytes:  # fmt: skip
        habits = self._habits
        headers = HeaderBlock()
        headers.addresses("From", [self._me])
        headers.addresses("To", to)
        headers.addresses("Cc", cc)
        headers.text("Subject", subject)
        if habits.thread_index:
            headers.text("Thread-Topic", thread_topic(original) if original is not None else subject)
            headers.token("Thread-Index", _thread_index(habits, original, now, token))
        headers.token("Date", date(now))
        headers.ids("Message-ID", [habits.message_id(self._me, now, token)])
        if original is not None:
            headers.add("References", _per_line(habits.references(original), habits.per_line))
            headers.ids("In-Reply-To", [original.message_id])
        for name, value in habits.headers:
            headers.token(name, value)
        headers.add("MIME-Version", b"1.0")
        plain, html = habits.bodies(self._me, text, original)
        if html is None:
            encoding, body = transfer(plain)
            headers.token("Content-Type", f"text/plain; {habits.text_parameters}")
            headers.token("Content-Transfer-Encoding", encoding)
        else:
            mark = boundary(self.client, token)
            headers.token("Content-Type", f'multipart/alternative; boundary="{mark}"')
            body = _alternative(plain, html, mark, habits.text_parameters)
        raw = headers.bytes() + b"\r\n" + body.encode("ascii")
        check(raw, headers.names)
        return raw


def _alternative(plain: str, html: str, mark: str, parameters: str) -> str:
    out = []
    for kind, content in (("plain", plain), ("html", html)):
        encoding, body = transfer(content)
        head = f"Content-Type: text/{kind}; {parameters}\r\nContent-Transfer-Encoding: {encoding}\r\n"
        out.append(f"--{mark}\r\n{head}\r\n{body}\r\n")
    return "".join(out) + f"--{mark}--\r\n"


def _per_line(ids: Sequence[str], count: int) -> bytes:
    """As many ids on one line as the client puts there."""
    whole = list(dict.fromkeys(i for i in ids if i))
    return b"\r\n ".join(" ".join(whole[i : i + count]).encode("ascii") for i in range(0, len(whole), count))


def _thread_index(habits: Habits, original: Message | None, now: datetime, token: bytes) -> str:
    parent = outlook.read(original.thread_index) if original is not None and original.thread_index else None
    guid = hashlib.sha256(b"guid" + token).digest()[:16]
    if parent is not None:
        return outlook.write(outlook.child(parent, now, token[0]))
    fresh = outlook.fresh(now, guid, classic=habits.thread_index == "classic")
    return outlook.write(fresh if original is None else outlook.child(fresh, now, token[0]))


def _now(now: datetime | None) -> datetime:
    return now if now is not None else datetime.now(UTC)
