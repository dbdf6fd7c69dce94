"""How mail clients build a reply: their Message-IDs, their idea of References, what they quote and how.

From 144,069 mails of public lists and the clients' own sources; docs/explanation/replying.md tells the figures.
"""

from __future__ import annotations

import base64
import hashlib
import html as html_module
import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime

from ..message.models import Address, Message

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
           "November", "December")  # fmt: skip

Bodies = tuple[str, str | None]
"""The text, and the HTML of clients that write one."""


# -- Message-IDs


def _gmail_id(address: Address, now: datetime, token: bytes) -> str:
    return f"<CA{_letters(token, 46, '+=_-')}@mail.gmail.com>"


def _exchange_id(address: Address, now: datetime, token: bytes) -> str:
    """80 characters: longer than any library may fold, which is what breaks so many replies to Outlook."""
    digits = hashlib.sha256(token).hexdigest().upper()
    server = f"BL0PR{int(digits[:2], 16) % 90 + 10}MB{int(digits[2:6], 16) % 9000 + 1000}"
    return f"<{server}{digits[:25]}@{server}.namprd{server[5:7]}.prod.outlook.com>"


def _outlook_id(address: Address, now: datetime, token: bytes) -> str:
    ticks = int((now - datetime(1601, 1, 1, tzinfo=UTC)).total_seconds() * 10**7)
    digits = hashlib.sha256(token).hexdigest()
    return f"<{int(digits[:2], 16):06x}{ticks >> 32:08x}${digits[2:10]}${digits[10:18]}$@{address.domain}>"


def _apple_id(address: Address, now: datetime, token: bytes) -> str:
    return f"<{str(_uuid(token)).upper()}@{address.domain}>"


def _thunderbird_id(address: Address, now: datetime, token: bytes) -> str:
    return f"<{_uuid(token)}@{address.domain}>"


def _yahoo_id(address: Address, now: datetime, token: bytes) -> str:
    number = int.from_bytes(token[:4], "big")
    return f"<{number % 10**9}.{number % 10**6}.{int(now.timestamp() * 1000)}@mail.yahoo.com>"


def _mutt_id(address: Address, now: datetime, token: bytes) -> str:
    return f"<{_letters(token, 16, '+')}@{address.domain}>"


def _letters(token: bytes, length: int, extra: str) -> str:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789" + extra
    data = hashlib.sha512(token).digest()
    return "".join(alphabet[b % len(alphabet)] for b in data[:length])


def _uuid(token: bytes) -> uuid.UUID:
    return uuid.UUID(bytes=hashlib.sha256(token).digest()[:16], version=4)


# -- References


def _whole(original: Message) -> list[str]:
    """RFC 5322 3.6.4: Gmail since 2010, Exchange, Outlook since 2007, Apple Mail."""
    above = original.references or (original.in_reply_to if len(original.in_reply_to) == 1 else ())
    return [*(i for i in above if i != original.message_id), original.message_id]


def _parent_only(original: Message) -> list[str]:
    """iOS since 13: 253 of 253."""
    return [original.message_id]


def _last_ten(original: Message) -> list[str]:
    """mutt drops the root."""
    return _whole(original)[-10:]


def _thunderbird(original: Message) -> list[str]:
    """The first and as many of the newest as fit into 986 characters; never the parent's In-Reply-To."""
    chain = [*original.references, original.message_id]
    while len(" ".join(chain)) > 986 and len(chain) > 2:
        del chain[1]
    return chain


# -- bodies


def _gmail(me: Address, text: str, original: Message | None) -> Bodies:
    html = f'<div dir="ltr">{_div(text)}</div>'
    if original is None:
        return text, html + "\n"
    at = _at(original)
    # Gmail puts a narrow no-break space before AM and PM since 2023.
    hour = f"{at.hour % 12 or 12}:{at.minute:02d}\u202f{'AM' if at.hour < 12 else 'PM'}"
    when = f"On {_DAYS[at.weekday()][:3]}, {_MONTHS[at.month - 1][:3]} {at.day}, {at.year} at {hour}"
    name, email = _who(original)
    line = f"{when} {name} <{email}> wrote:" if name else f"{when} <{email}> wrote:"
    shown = line if len(line) <= 78 else line.replace(f" <{email}>", f"\n<{email}>")
    link = f'&lt;<a href="mailto:{email}">{email}</a>&gt;'
    quote = (
        f'<br><div class="gmail_quote gmail_quote_container"><div dir="ltr" class="gmail_attr">{_text(when)} '
        f"{_text(name)} {link} wrote:<br></div>"
        '<blockquote class="gmail_quote" style="margin:0px 0px 0px 0.8ex;border-left:1px solid rgb(204,204,204);'
        f'padding-left:1ex">{_inner(original)}</blockquote></div>\n'
    )
    return f"{text}\n\n{shown}\n\n{_quoted(original)}\n", html + quote


def _outlook(me: Address, text: str, original: Message | None) -> Bodies:
    style = 'style="font-family: Aptos, Calibri, sans-serif; font-size: 12pt; color: rgb(0, 0, 0);"'
    lines = "".join(f'<div class="elementToProof" {style}>{_text(one) or "<br>"}</div>\n' for one in text.split("\n"))
    head = '<html>\n<head>\n<meta http-equiv="Content-Type" content="text/html; charset=utf-8">\n</head>\n'
    head += '<body dir="ltr">\n'
    if original is None:
        return text, f"{head}{lines}</body>\n</html>\n"
    block = _header_block(original)
    shown = "<br>\n".join(f"<b>{name}:</b> {_text(value)}" for name, value in block)
    quote = (
        '<div id="appendonsend"></div>\n<hr style="display:inline-block;width:98%" tabindex="-1">\n'
        '<div id="divRplyFwdMsg" dir="ltr"><font face="Calibri, sans-serif" style="font-size:11pt" color="#000000">'
        f"{shown}</font>\n<div>&nbsp;</div>\n</div>\n<div>{_inner(original)}</div>\n"
    )
    plain = "\n".join(f"{name}: {value}" for name, value in block)
    return (
        f"{text}\n\n{'_' * 32}\n{plain}\n\n{original.text.rstrip()}\n",
        f"{head}{lines}{quote}</body>\n</html>\n",
    )


def _outlook_desktop(me: Address, text: str, original: Message | None) -> Bodies:
    lines = "".join(f"<p class=MsoNormal>{_text(one) or '&nbsp;'}<o:p></o:p></p>\n" for one in text.split("\n"))
    head = (
        '<html xmlns:o="urn:schemas-microsoft-com:office:office" xmlns="http://www.w3.org/TR/REC-html40">\n<head>\n'
        '<meta http-equiv=Content-Type content="text/html; charset=utf-8">\n'
        "<style><!--\np.MsoNormal {margin:0cm; font-size:11.0pt;}\n--></style>\n</head>\n"
        '<body lang=EN-US link="#0563C1" vlink="#954F72">\n<div class=WordSection1>\n'
    )
    if original is None:
        return text, f"{head}{lines}</div>\n</body>\n</html>\n"
    block = _header_block(original)
    shown = "<br>".join(f"<b>{name}:</b> {_text(value)}" for name, value in block)
    quote = (
        "<div style='border:none;border-top:solid #E1E1E1 1.0pt;padding:3.0pt 0cm 0cm 0cm'>"
        f"<p class=MsoNormal>{shown}<o:p></o:p></p></div>\n{_inner(original)}\n"
    )
    plain = " \n".join(f"{name}: {value}" for name, value in block)
    return f"{text}\n\n{plain}\n\n{original.text.rstrip()}\n", f"{head}{lines}{quote}</div>\n</body>\n</html>\n"


def _apple(me: Address, text: str, original: Message | None) -> Bodies:
    return _apple_bodies(text, original, device="")


def _ios(me: Address, text: str, original: Message | None) -> Bodies:
    return _apple_bodies(text, original, device="Sent from my iPhone")


def _apple_bodies(text: str, original: Message | None, *, device: str) -> Bodies:
    head = '<html><head><meta http-equiv="content-type" content="text/html; charset=utf-8"></head><body dir="auto">'
    html = _div(text) + (f'<br><br><div dir="ltr">{device}</div>' if device else "")
    plain = f"{text}\n\n{device}\n" if device else f"{text}\n"
    if original is None:
        return plain, f"{head}{html}</body></html>"
    at = _at(original)
    name, email = _who(original)
    when = f"{at.day} {_MONTHS[at.month - 1][:3]} {at.year}, at {at.hour:02d}:{at.minute:02d}"
    line = f"On {when}, {name or email} <{email}> wrote:"
    mark = "\ufeff" if device else ""  # iOS puts a byte order mark before what it quotes
    quote = (
        f'<div dir="ltr"><br><blockquote type="cite">{_text(line)}<br><br></blockquote></div>'
        f'<blockquote type="cite"><div dir="ltr">{mark}{_inner(original)}</div></blockquote>'
    )
    quoted = "\n".join(f"> {one}" for one in (line, "", *f"{mark}{original.text.rstrip()}".split("\n")))
    return f"{plain}\n{quoted}\n", f"{head}{html}{quote}</body></html>"


def _thunderbird_bodies(me: Address, text: str, original: Message | None) -> Bodies:
    """Plain text, the answer below the quote: its defaults."""
    if original is None:
        return f"{text}\n", None
    at = _at(original)
    name, email = _who(original)
    clock = f"{at.hour % 12 or 12}:{at.minute:02d} {'AM' if at.hour < 12 else 'PM'}"
    line = f"On {at.month}/{at.day}/{at.year % 100} {clock}, {name or email} wrote:"
    return f"{line}\n{_quoted(original, tight=True)}\n\n{text}\n", None


def _mutt(me: Address, text: str, original: Message | None) -> Bodies:
    if original is None:
        return f"{text}\n", None
    at = _at(original)
    when = f"{_DAYS[at.weekday()][:3]}, {_MONTHS[at.month - 1][:3]} {at.day:02d}, {at.year}"
    clock = f"{at.hour % 12 or 12:02d}:{at.minute:02d}:{at.second:02d}{'AM' if at.hour < 12 else 'PM'}"
    line = f"On {when} at {clock} +0000, {_who(original)[0] or _who(original)[1]} wrote:"
    return f"{line}\n{_quoted(original)}\n\n{text}\n", None


def _yahoo(me: Address, text: str, original: Message | None) -> Bodies:
    html = f'<html><head></head><body><div class="ydp-yahoo-style-wrap"><div dir="ltr">{_div(text)}</div></div>'
    if original is None:
        return f"{text}\n", f"{html}</body></html>"
    at = _at(original)
    name, email = _who(original)
    clock = f"{at.hour % 12 or 12:02d}:{at.minute:02d}:{at.second:02d} {'AM' if at.hour < 12 else 'PM'} UTC"
    line = f"On {_DAYS[at.weekday()]}, {_MONTHS[at.month - 1]} {at.day}, {at.year} at {clock}, {name} <{email}> wrote:"
    quote = (
        '<div id="yahoo_quoted_1" class="yahoo_quoted"><div style="font-family:\'Helvetica Neue\', sans-serif">'
        f"<div>{_text(line)}</div><div><br></div><div><br></div><div>{_inner(original)}</div></div></div>"
    )
    quoted = "\n".join(f" {one}" for one in original.text.rstrip().split("\n"))
    return f" {text}\n    {line}  \n \n{quoted}\n", f"{html}{quote}</body></html>"


def _header_block(original: Message) -> list[tuple[str, str]]:
    at = _at(original)
    clock = f"{at.hour % 12 or 12}:{at.minute:02d} {'AM' if at.hour < 12 else 'PM'}"
    block = [
        ("From", str(original.sender or "")),
        ("Sent", f"{_DAYS[at.weekday()]}, {_MONTHS[at.month - 1]} {at.day}, {at.year} {clock}"),
        ("To", "; ".join(map(str, original.to))),
        ("Cc", "; ".join(map(str, original.cc))),
        ("Subject", original.subject),
    ]
    return [(name, value) for name, value in block if value]


def _at(original: Message) -> datetime:
    return original.sent_at or datetime(2000, 1, 1, tzinfo=UTC)


def _who(original: Message) -> tuple[str, str]:
    return (original.sender.name, original.sender.email) if original.sender is not None else ("", "unknown@invalid")


def _quoted(original: Message, *, tight: bool = False) -> str:
    return "\n".join(
        f">{one}" if one.startswith(">") and tight else f"> {one}" for one in original.text.rstrip().split("\n")
    )


def _text(text: str) -> str:
    return html_module.escape(text, quote=False)


def _div(text: str) -> str:
    return "".join(f"<div>{_text(one) or '<br>'}</div>" for one in text.split("\n"))


def _inner(original: Message) -> str:
    """The original's markup, as clients embed it: without the tags of a document."""
    if original.html is None:
        return _text(original.text.rstrip()).replace("\n", "<br>\n")
    return re.sub(r"(?is)<!doctype[^>]*>|<head\b.*?</head>|</?(?:html|body)\b[^>]*>", "", original.html).strip()


@dataclass(frozen=True)
class Habits:
    """One client."""

    message_id: Callable[[Address, datetime, bytes], str]
    bodies: Callable[[Address, str, Message | None], Bodies]
    references: Callable[[Message], Sequence[str]] = _whole
    per_line: int = 1
    """Ids on one line of References."""
    re: str = "Re: "
    thread_index: str = ""
    """`modern`, `classic`, or none."""
    headers: tuple[tuple[str, str], ...] = ()
    """What it adds about itself."""
    text_parameters: str = 'charset="UTF-8"'


HABITS: dict[str, Habits] = {
    "gmail": Habits(_gmail_id, _gmail, per_line=2),
    "outlook": Habits(
        _exchange_id, _outlook, thread_index="modern",
        headers=(("Accept-Language", "en-US"), ("Content-Language", "en-US"), ("X-MS-Has-Attach", ""),
                 ("X-MS-TNEF-Correlator", "")),
    ),
    "outlook-desktop": Habits(
        _outlook_id, _outlook_desktop, re="RE: ", thread_index="classic",
        headers=(("X-Mailer", "Microsoft Outlook 16.0"), ("Content-Language", "en-us")),
    ),
    "apple": Habits(_apple_id, _apple, per_line=2, headers=(("X-Mailer", "Apple Mail (2.3774.600.62)"),)),
    "ios": Habits(_apple_id, _ios, references=_parent_only, headers=(("X-Mailer", "iPhone Mail (22F76)"),)),
    "thunderbird": Habits(
        _thunderbird_id, _thunderbird_bodies, references=_thunderbird, per_line=2,
        headers=(("User-Agent", "Mozilla Thunderbird"), ("Content-Language", "en-US")),
        text_parameters="charset=UTF-8; format=flowed",
    ),
    "yahoo": Habits(_yahoo_id, _yahoo, headers=(("X-Mailer", "WebService/1.1.23772 YMailNovation"),)),
    "mutt": Habits(_mutt_id, _mutt, references=_last_ten, per_line=2, text_parameters="charset=utf-8"),
}  # fmt: skip


def boundary(client: str, token: bytes) -> str:
    """A multipart boundary in the client's form."""
    digits = hashlib.sha256(b"boundary" + token).hexdigest()
    if client == "gmail":
        return f"000000000000{digits[:16]}"
    if client == "outlook":
        return f"_000_{digits[:32].upper()}_"
    if client == "outlook-desktop":
        return f"----=_NextPart_000_{digits[:4].upper()}_{digits[4:12].upper()}.{digits[12:20].upper()}"
    if client in {"apple", "ios"}:
        return f"Apple-Mail-{str(_uuid(token)).upper()}"
    return f"----=_Part_{int(digits[:6], 16)}_{int(digits[6:12], 16)}"


def date(now: datetime) -> str:
    return format_datetime(now)


def transfer(text: str) -> tuple[str, str]:
    """`(Content-Transfer-Encoding, encoded)` as these clients choose: 7bit, quoted-printable, or base64."""
    plain = text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n") + "\n"
    lines = plain.split("\n")
    if plain.isascii() and max(map(len, lines)) <= 78 and not any(one.startswith(("From ", ".")) for one in lines):
        return "7bit", plain.replace("\n", "\r\n")
    data = plain.replace("\n", "\r\n").encode()
    encoded = base64.b64encode(data).decode("ascii")
    return "base64", "".join(encoded[i : i + 76] + "\r\n" for i in range(0, len(encoded), 76))
