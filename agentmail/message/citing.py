"""The bodies of what we write: text and HTML of one another, the original below an answer, a forwarded message.

What an outsider wrote enters our mail as text, also in the HTML: their markup could track, hide or forge, and it would
go out under our name. See docs/decisions/0031-quote-as-text.md.
"""

from __future__ import annotations

import html as html_module
import re
from datetime import UTC, datetime

from ..errors import BadInput
from .models import Address, Message
from .text import html_to_text
from .words import one_line

MAX_QUOTED = 200_000
"""Characters of an original that are quoted."""
_UNWRITABLE = re.compile("[\x00\ud800-\udfff]")
_URL = re.compile(r"https?://[^\s<>\"']{1,2000}")
_SPACES = re.compile(r"(?m)^ +|  +|\t")
_ENDS = re.compile("\r\n?")
_CLOSING = re.compile(r"(?i)(?:</body>\s*)?(?:</html>\s*)?\Z")

Bodies = tuple[str, str]
"""The text and the HTML."""


def both(text: str | None, html: str | None, *, empty: bool = False) -> Bodies:
    """The text and the HTML, each made from the other when only one is given. Markdown is not interpreted.

    Raises:
        BadInput: there is nothing to say (unless `empty`), or a character that mail cannot carry.
    """
    for name, body in (("text", text), ("html", html)):
        if body is not None and (bad := _UNWRITABLE.search(body)):
            raise BadInput(
                f"{name} contains U+{ord(bad[0]):04X} at character {bad.start()}, which mail cannot carry: take it out"
            )
    if text is None:
        text = html_to_text(html) if html is not None else ""
    if not empty and not text.strip() and not (html or "").strip():
        raise BadInput("there is nothing to send: give text= or html=")
    text = _ENDS.sub("\n", text)
    return text, html if html is not None else f"<div>{text_to_html(text)}</div>\n"


def text_to_html(text: str) -> str:
    """Text as HTML that shows the same: escaped, line breaks and indentation kept, web addresses linked."""
    out: list[str] = []
    at = 0
    for match in _URL.finditer(text):
        url = match[0].rstrip(".,;:!?)]}*_'\"")
        shown = html_module.escape(url, quote=True)
        out += (_escaped(text[at : match.start()]), f'<a href="{shown}">{shown}</a>')
        at = match.start() + len(url)
    out.append(_escaped(text[at:]))
    return "".join(out).rstrip("\n").replace("\n", "<br>\n")


def _escaped(text: str) -> str:
    # Outlook knows no `white-space: pre-wrap`; hard spaces show indentation everywhere.
    return _SPACES.sub(lambda m: "&nbsp;" * (4 if m[0] == "\t" else len(m[0]) - 1) + " ", html_module.escape(text))


def quoted(original: Message, bodies: Bodies) -> Bodies:
    """The original below the answer: an attribution line and "> " as Gmail writes it, a blockquote in the HTML."""
    text, html = bodies
    line = attribution(original.sender, original.sent_at)
    body = _original_text(original)
    lines = "\n".join(f">{'' if one.startswith('>') else ' '}{one}".rstrip() for one in body.splitlines())
    block = (
        '<div class="gmail_quote gmail_quote_container"><div dir="ltr" class="gmail_attr">'
        f"{html_module.escape(line)}<br></div>\n"
        '<blockquote class="gmail_quote" style="margin:0px 0px 0px 0.8ex;border-left:1px solid rgb(204,204,204);'
        f'padding-left:1ex">{text_to_html(body)}</blockquote></div>\n'
    )
    return f"{text.rstrip()}\n\n{line}\n{lines}\n", _inside(html, f"<br>\n{block}")


def footed(bodies: Bodies, footer: str | None) -> Bodies:
    """The footer below what is said, and so above what is quoted. A body that ends with it stays as it is."""
    if footer is None or not footer.strip():
        return bodies
    if bad := _UNWRITABLE.search(footer):
        raise BadInput(f"footer contains U+{ord(bad[0]):04X}, which mail cannot carry: take it out")
    footer = _ENDS.sub("\n", footer).strip()
    text, html = bodies
    if not _ends_with(text, footer):
        text = f"{text.rstrip()}\n\n{footer}\n"
    if not _ends_with(html_to_text(html), footer):
        html = _inside(html, f"<br>\n<div>{text_to_html(footer)}</div>\n")
    return text, html


def _ends_with(text: str, footer: str) -> bool:
    """However the lines are broken."""
    return " ".join(text.split()).endswith(" ".join(footer.split()))


def attribution(sender: Address | None, sent_at: datetime | None) -> str:
    """`On Wed, May 13, 2026 at 11:05 AM Ana <ana@example.org> wrote:`, which every client knows to fold away."""
    name, email = (one_line(sender.name)[:100], one_line(sender.email)[:320]) if sender is not None else ("", "")
    who = f"{name} <{email}>" if name and email else email or name or "somebody"
    if sent_at is None:
        return f"{who} wrote:"
    at = sent_at.astimezone(UTC)
    return f"On {_DAYS[at.weekday()]}, {_MONTHS[at.month - 1]} {at.day}, {at.year} at {_clock(at)} {who} wrote:"


def forwarded(original: Message, bodies: Bodies) -> Bodies:
    """The original below the text, under Gmail's line "Forwarded message" and its main headers."""
    text, html = bodies
    at = original.sent_at.astimezone(UTC) if original.sent_at is not None else None
    date = f"{_DAYS[at.weekday()]}, {_MONTHS[at.month - 1]} {at.day}, {at.year} at {_clock(at)}" if at else ""
    shown = (
        ("From", str(original.sender or "")),
        ("Date", date),
        ("Subject", original.subject[:1_000]),
        ("To", ", ".join(map(str, original.to[:20]))),
        ("Cc", ", ".join(map(str, original.cc[:20]))),
    )
    head = "---------- Forwarded message ---------\n" + "\n".join(
        f"{name}: {one_line(value[:8_000])}" for name, value in shown if value
    )
    body = _original_text(original)
    written = f"{text.rstrip()}\n\n" if text.strip() else ""
    block = f'<div class="gmail_quote">{text_to_html(head)}<br>\n<br>\n{text_to_html(body)}</div>\n'
    return f"{written}{head}\n\n{body}\n", _inside(html, f"<br>\n{block}" if text.strip() else block)


def _original_text(original: Message) -> str:
    text = _ENDS.sub("\n", _UNWRITABLE.sub("\ufffd", original.text[:MAX_QUOTED])).rstrip()
    return text if len(original.text) <= MAX_QUOTED else text + "\n[…]"


def _inside(html: str, block: str) -> str:
    """`block` at the end of the body, before the tags that close a whole document."""
    end = _CLOSING.search(html, max(0, len(html) - 200))
    at = end.start() if end is not None else len(html)
    return html[:at] + block + html[at:]


def _clock(at: datetime) -> str:
    return f"{at.hour % 12 or 12}:{at.minute:02d} {'AM' if at.hour < 12 else 'PM'}"


# Not strftime: its names are those of the process's locale.
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
