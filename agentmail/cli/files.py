"""Commands on files, which need no account and no server: parse."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from ..errors import BadInput
from ..message.models import Message
from ..message.parse import parse as parse_bytes
from .app import AsJson, app, err, headline, out, plain


def read(path: Path) -> bytes:
    """The bytes of a file, or of standard input for `-`."""
    if str(path) == "-":
        return sys.stdin.buffer.read()
    try:
        return path.read_bytes()
    except OSError as exc:
        raise BadInput(f"{path}: {exc.strerror}") from exc


@app.command("parse")
def parse(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Messages (.eml); - reads standard input.")],
    as_json: AsJson = False,
) -> None:
    """Show what agentmail sees in a message.

    Ids, people, text, attachments, and what was wrong with it.
    """
    failed = False
    for path in files:
        try:
            raw = read(path)
        except BadInput as exc:  # the others are still worth reading
            err.print(plain(f"agentmail: {exc}"))
            failed = True
            continue
        message = parse_bytes(raw)
        if as_json:
            sys.stdout.write(message.model_dump_json() + "\n")
        else:
            show_message(message, title=plain(str(path)))
    if failed:
        raise typer.Exit(3)


def hidden_shown(message: Message) -> str:
    """What its HTML holds that no reader would see, in words: counted, never shown."""
    hidden = message.hidden
    said = (
        (hidden.characters, f"{hidden.characters:,} characters of the HTML that nobody sees were left out"),
        (hidden.invisible, f"{hidden.invisible:,} invisible characters were taken out"),
        (hidden.uncertain, "some of the text may be hidden from a reader"),
        (hidden.plain_differs, "the plain text says something that the HTML does not"),
    )
    return "; ".join(words for so, words in said if so)


def show_message(message: Message, *, title: str = "", full: bool = True) -> None:
    """One message for people: headers in one column, then its text."""
    if title:
        out.rule(Text(title, style="dim"), style="dim")  # its own bright green is not to be seen on white
    rows: list[tuple[str, object]] = [
        ("From", message.sender),
        ("To", ", ".join(map(str, message.to))),
        ("Cc", ", ".join(map(str, message.cc))),
        ("Reply-To", ", ".join(map(str, message.reply_to))),
        ("Date", message.sent_at.isoformat(" ", "seconds") if message.sent_at else None),
        ("Subject", message.subject and headline(message.subject)),
        ("Message-ID", message.message_id),
        ("In-Reply-To", " ".join(message.in_reply_to)),
        ("References", " ".join(message.references)),
        ("Automated", message.automated),
        ("Hidden", hidden_shown(message)),
        ("Defects", ", ".join(message.defects)),
    ]
    for name, value in rows:
        if value:
            out.print(Text.assemble((f"{name:>12}  ", "bold"), str(value)), soft_wrap=True)
    for attachment in message.attachments:
        out.print(
            Text.assemble(
                (f"{'Attachment':>12}  ", "bold"),
                f"{attachment.id or ''} {attachment.name}".strip(),
                f" ({attachment.content_type}, {attachment.size:,} bytes)",
            ),
            soft_wrap=True,
        )
    text = message.text if full else message.new_text
    if text:
        out.print()
        out.print(Text(text.rstrip()))
        out.print()
