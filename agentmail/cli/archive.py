"""Commands on what the store holds: import, search, forget, size."""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from ..archive import Totals, Unreadable, import_archive, measure, reading_ahead
from ..errors import BadInput
from .app import AsJson, Store, app, count, err, headline, out, plain, run, settings

if TYPE_CHECKING:
    from ..store import ThreadStore


@app.command("import")
def import_(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH…", exists=True, help=".eml, mbox, Maildir, or folders of them.")
    ],
    store: Store = None,
    account: Annotated[
        str | None,
        typer.Option("--account", metavar="ADDRESS", help="Whose mail it is; left out for an archive of nobody's."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """File mail from files into threads. May be stopped and run again: nothing is filed twice."""
    if account is not None and "@" not in account:
        raise BadInput(f"--account {account}: give the address that received this mail")

    def problem(found: Unreadable) -> None:
        what = plain(f"{found.source}: {found.reason}")
        err.print(Text.assemble(("not read: ", "bold yellow"), what), soft_wrap=True)

    async def work() -> Totals:
        async with _store(store) as thread_store:
            # This process does nothing else, and an import leaves no cycles behind: looking for them was a twentieth
            # of it.
            gc.freeze()
            gc.set_threshold(100_000)
            gc.enable()
            with _bar() as bar:
                task = bar.add_task("import", total=measure(paths) if not bar.disable else None, messages=0)

                def progress(totals: Totals) -> None:
                    bar.update(task, completed=totals.bytes, messages=totals.messages)

                return await import_archive(
                    thread_store, paths, account=account, progress=progress, unreadable=problem, ahead=ahead
                )

    gc.disable()  # until the database library is loaded (see `cli.main`)
    with reading_ahead(paths, account=account) as ahead:
        totals = run(work)
    if as_json:
        sys.stdout.write(json.dumps(totals.as_json()) + "\n")
    else:
        out.print(
            f"{count(totals.messages, 'message')} in {count(len(totals.touched), 'thread')}: {totals.filed:,} filed, "
            f"{totals.duplicates:,} were there already, {totals.defects:,} with defects; {totals.seconds:.1f} s"
        )
    if totals.quarantined:
        err.print(f"{totals.quarantined:,} messages were refused by the database and put aside")
    if totals.unreadable:
        err.print(f"{totals.unreadable:,} files could not be read; they are named above")
        raise typer.Exit(1)


def _store(url: str | None) -> ThreadStore:
    from ..store import ThreadStore  # not above: an import has its mail parsed while the database library loads

    return ThreadStore(settings(store=url).store)


def _bar() -> Progress:
    """A progress bar on a terminal, nothing in a pipe."""
    return Progress(
        TextColumn("{task.fields[messages]:,} messages"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(),
        console=err, disable=not err.is_terminal,
    )  # fmt: skip


@app.command()
def search(
    query: Annotated[list[str], typer.Argument(metavar="Q", help="Words; operators are in docs/how-to/search.md.")],
    store: Store = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="How many.")] = 20,
    after: Annotated[str | None, typer.Option("--after", help="Go on after this message (m45).")] = None,
    as_json: AsJson = False,
) -> None:
    """Find messages by their words.

    And by from: to: subject: label: has:attachment before: after: "a phrase" -word.
    """

    async def work() -> int:
        async with _store(store) as thread_store:
            hits = await thread_store.search(" ".join(query), limit=limit, after=after)
        for hit in hits:
            if as_json:
                sys.stdout.write(hit.model_dump_json() + "\n")
                continue
            day = hit.at.date().isoformat() if hit.at else ""
            out.print(Text.assemble((f"{hit.thread} {hit.id}", "bold"), f"  {day}  {hit.sender or ''}  ",
                                    (headline(hit.subject), "bold")), soft_wrap=True)  # fmt: skip
            if hit.snippet:
                out.print(Text(f"    {hit.snippet}", style="dim"), soft_wrap=True)
        return len(hits)

    if not run(work) and not as_json:
        err.print("nothing found")


@app.command()
def forget(
    what: Annotated[str, typer.Argument(metavar="ADDRESS|T", help="An address, or a thread (t12).")],
    store: Store = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete everything of a person, or a thread, for good.

    Attachments too. On the mail server it stays.
    """
    if not yes and not (sys.stdin.isatty() and typer.confirm(f"Delete {what} from the store for good?")):
        raise BadInput("nothing was deleted: confirm, or give --yes")

    async def work() -> None:
        async with _store(store) as thread_store:
            done = await (thread_store.forget(what) if "@" in what else thread_store.delete_thread(what))
            await thread_store.vacuum()
        if as_json:
            sys.stdout.write(done.model_dump_json() + "\n")
            return
        out.print(
            f"deleted: {count(done.messages, 'message')}, {count(done.attachments, 'attachment')}; "
            f"nothing is left of {count(len(done.threads), 'thread')}"
        )
        if done.still_mentioned:
            out.print(
                f"{len(done.still_mentioned):,} messages of other people still name {what}: "
                + " ".join(done.still_mentioned[:20])
            )

    run(work)


@app.command()
def size(
    store: Store = None,
    vacuum: Annotated[bool, typer.Option("--vacuum", help="First give unused space back.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say what the store holds and how large it is."""

    async def work() -> None:
        async with _store(store) as thread_store:
            if vacuum:
                await thread_store.vacuum()
            found = await thread_store.size()
        if as_json:
            sys.stdout.write(found.model_dump_json() + "\n")
            return
        table = Table(box=None, pad_edge=False)
        for column in ("account", "threads", "messages", "attachments", "mail (bytes)"):
            first = column == "account"
            table.add_column(column, justify="left" if first else "right", overflow="fold" if first else "ellipsis")
        for row in found.accounts:
            table.add_row(Text(row.account or "(archive)"), f"{row.threads:,}", f"{row.messages:,}",
                          f"{row.attachments:,}", f"{row.bytes:,}")  # fmt: skip
        out.print(table)
        out.print(f"database: {found.database_bytes:,} bytes, of which {found.unused_bytes:,} unused")

    run(work)
