"""`agentmail doctor`: what is wrong with the threading of these messages, and the fix."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from ..archive import Unreadable, read
from ..message.models import Message
from ..message.parse import parse
from ..threads.doctor import Report, examine
from .app import AsJson, app, count, err, out, plain

COLOURS = {"error": "bold red", "warning": "yellow", "note": "dim"}


@app.command()
def doctor(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH…", exists=True, help=".eml, mbox, Maildir, or folders of them.")
    ],
    as_json: AsJson = False,
) -> None:
    """Say whether mail clients will group these messages.

    And why, or why not, with the fix. Exit code 1 when there are errors.
    """
    messages: list[Message] = []
    files: list[str] = []
    raws: list[bytes] = []
    for found in read(paths):
        if isinstance(found, Unreadable):
            problem = plain(f"{found.source}: {found.reason}")
            err.print(Text.assemble(("not read: ", "bold yellow"), problem), soft_wrap=True)
        else:
            messages.append(parse(found.raw))
            files.append(found.source)
            raws.append(found.raw)
    report = examine(messages, files=files, raws=raws)
    if not messages:
        err.print("no mail was found there")
    if as_json:
        sys.stdout.write(json.dumps(report.as_json(), ensure_ascii=False) + "\n")
    elif messages:
        show(report)
    if not report.healthy:
        raise typer.Exit(1)


def show(report: Report) -> None:
    for message in report.messages:
        if message.findings:
            out.print(Text.assemble((message.message_id, "bold"), plain(f"  {message.file or ''}")), soft_wrap=True)
        for finding in message.findings:
            out.print(
                Text.assemble(
                    (f"  {finding.severity:<8}", COLOURS.get(finding.severity, "")),
                    f"{finding.code}: {finding.message}",
                    (f"\n          {finding.fix}" if finding.fix else "", "dim"),
                ),
                soft_wrap=True,
            )
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("client", "threads", "sizes", "confidence"):
        table.add_column(column)
    for client, groups in report.groups.items():
        sizes = ", ".join(str(len(g)) for g in groups[:12]) + (" …" if len(groups) > 12 else "")
        table.add_row(client, str(len(groups)), sizes, report.confidence.get(client, ""))
    out.print(table)
    number = sum(len(m.findings) for m in report.messages)
    out.print(
        f"{count(len(report.messages), 'message')}, {count(number, 'finding')}"
        + ("" if report.healthy else ", with errors")
    )
