"""Commands on an account and its store: threads, show, reply, send, explain, config."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from ..errors import BadInput
from ..message.models import Attachment
from ..settings import Settings
from ..store import Thread, ThreadStore
from ..store.reading import number, threads_of
from ..threads.models import Why, note_line
from .app import Agent, AsJson, Store, app, err, headline, out, plain, run, settings
from .files import read, show_message

if TYPE_CHECKING:
    from ..inbox import Inbox
    from ..sent import Sent

NARROW = 72
"""Columns below which a list of threads gives up what can be asked for: a subject of three letters helps nobody."""
TOGETHER = 20
"""Threads whose messages are read at a time."""
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="How many.")]
Body = Annotated[
    str | None, typer.Option("--text", "-t", help="What to write; read from standard input when left out.")
]
Attach = Annotated[list[Path] | None, typer.Option("--attach", "-a", help="A file to attach; may be given again.")]


def inbox(store: str | None, agent: str | None = None) -> Inbox:
    from ..inbox import Inbox  # half of what the command imports, and who only reads the store has no need of it

    return Inbox.from_env(store=store, agent=agent)


@app.command()
def threads(
    store: Store = None,
    status: Annotated[str | None, typer.Option("--status", help="open, done, or a word of your own.")] = None,
    assigned: Annotated[
        str | None, typer.Option("--assigned", metavar="NAME", help="Only what waits for this agent; human: for you.")
    ] = None,
    stuck: Annotated[bool, typer.Option("--stuck", help="Only what failed too often to be tried again.")] = False,
    limit: Limit = 20,
    everything: Annotated[bool, typer.Option("--all", help="All of them, not only the newest.")] = False,
    as_json: AsJson = False,
) -> None:
    """List threads, newest activity first.

    What was handed to a person is in `--assigned human`: answer it from any mail client, or by `agentmail reply`.
    """

    async def work() -> None:
        async with ThreadStore(settings(store=store).store) as thread_store:
            after: str | None = None
            left = sys.maxsize if everything else limit
            rows: list[tuple[str, ...]] = []
            while left > 0:
                page = await thread_store.threads(
                    status=status, limit=min(left, 100), after=after, assigned=assigned, stuck=stuck
                )
                if as_json:
                    async for thread in whole(thread_store, page):
                        sys.stdout.write(json.dumps(thread_shape(thread), ensure_ascii=False) + "\n")
                else:
                    rows += map(thread_row, page)
                if not page:
                    break
                left -= len(page)
                after = page[-1].id
            if not as_json and rows:
                out.print(thread_table(rows, narrow=out.width < NARROW))
            elif not as_json and (status or assigned or stuck):
                out.print("no such threads")
            elif not as_json:
                where = plain(settings(store=store).printable("store"))
                advice = "run `agentmail sync` or `agentmail import`"
                out.print(Text(f"no threads in {where} yet: {advice}"), soft_wrap=True)

    run(work)


def thread_table(rows: list[tuple[str, ...]], *, narrow: bool) -> Table:
    """One line a thread: what does not fit is cut, `--json` has it."""
    every = ("id", "last", "people", "subject", "messages", "waits for")
    columns: tuple[str, ...] = every
    if narrow:
        columns = tuple(c for c in every if c != "messages" and (c != "waits for" or any(row[5] for row in rows)))
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, no_wrap=column not in {"people", "subject"})  # these two give way
    for row in rows:
        shown = dict(zip(every, row, strict=True))
        if narrow:
            shown["last"] = shown["last"][:10]
        table.add_row(*(Text(shown[c], no_wrap=True, overflow="ellipsis") for c in columns))
    return table


async def whole(store: ThreadStore, page: Sequence[Thread]) -> AsyncIterator[Thread]:
    """The threads of a page with their messages."""
    for start in range(0, len(page), TOGETHER):
        ids = {thread.id: number(thread.id, "t") for thread in page[start : start + TOGETHER]}
        async with store.reading(snapshot=True) as tx:
            found = await threads_of(tx, list(ids.values()))
        for name, id_ in ids.items():
            yield found.get(id_) or await store.thread(name)  # it became part of another one meanwhile


def thread_shape(thread: Thread) -> dict[str, object]:
    """The shape that other programs read; it changes only by adding."""
    header = {m.id: m.message_id for m in thread.messages}
    return {
        "id": thread.id,
        "subject": thread.subject,
        "message_ids": [m.message_id for m in thread.messages],
        "parents": {header[child]: header.get(parent) for child, parent in thread.parents.items() if child in header},
        "assigned": thread.assigned,
        "attention": thread.attention,
    }


def thread_row(thread: Thread) -> tuple[str, ...]:
    last = thread.last_at.astimezone().strftime("%Y-%m-%d %H:%M") if thread.last_at else ""
    others = [p for p in thread.people if p.key != thread.account] or thread.people  # who it is with, not who we are
    people = ", ".join(p.name or p.email for p in others[:3]) + (" …" if len(others) > 3 else "")
    waits = "" if thread.attention == "idle" else thread.assigned or "any agent"
    if thread.attention in {"claimed", "stuck"}:
        waits += f" ({thread.attention})"
    return thread.id, last, people, headline(thread.subject), str(thread.count), waits


@app.command()
def show(
    thread: Annotated[str, typer.Argument(metavar="T", help="A thread (t12) or a message (m45).")],
    store: Store = None,
    quoted: Annotated[bool, typer.Option("--quoted", help="With quoted history and signatures.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a thread or one message."""

    async def work() -> None:
        async with ThreadStore(settings(store=store).store) as thread_store:
            if thread.startswith("t"):
                found = await thread_store.thread(thread)
                if as_json:
                    sys.stdout.write(found.model_dump_json() + "\n")
                    return
                line = f"{found.id}  {headline(found.subject)}  [{found.status}]"
                out.print(Text(line, style="bold"), soft_wrap=True)
                for note in found.notes:
                    out.print(Text(plain(note_line(note))), soft_wrap=True)
                for message in found.messages:
                    not_sent = found.unsent.get(str(message.id))
                    mark = f" → not sent, {not_sent}" if not_sent else " →" if message.outgoing else ""
                    show_message(message, title=f"{message.id}{mark}", full=quoted)
            else:
                message = await thread_store.message(thread)
                if as_json:
                    sys.stdout.write(message.model_dump_json() + "\n")
                else:
                    show_message(message, title=str(message.id))

    run(work)


@app.command()
def assign(
    thread: Annotated[str, typer.Argument(metavar="T", help="A thread (t12).")],
    to: Annotated[str, typer.Argument(metavar="NAME", help="The agent it goes to; human: to people.")],
    note: Annotated[str, typer.Option("--note", help="What they should know. It is never mailed.")] = "",
    store: Store = None,
) -> None:
    """Give a thread to an agent, or to a person.

    Whoever works on it at this moment can write nothing more.
    """

    async def work() -> None:
        async with ThreadStore(settings(store=store).store) as thread_store:
            await thread_store.assign(thread, to, note=note)
            out.print(Text(f"{thread} waits for {to}"), soft_wrap=True)

    run(work)


@app.command()
def reply(
    thread: Annotated[
        str, typer.Argument(metavar="T", help="A thread (t12: its newest incoming message) or a message (m45).")
    ],
    text: Body = None,
    reply_all: Annotated[bool, typer.Option("--all", help="To everybody on the message.")] = False,
    quote: Annotated[bool, typer.Option("--quote", help="Quote what is answered below the text.")] = False,
    attach: Attach = None,
    key: Annotated[str | None, typer.Option("--key", help="The same key never sends twice.")] = None,
    store: Store = None,
    agent: Agent = None,
    as_json: AsJson = False,
) -> None:
    """Answer in the thread."""

    async def work() -> None:
        async with inbox(store, agent) as box:
            original = thread
            if thread.startswith("t"):
                incoming = [m for m in (await box.thread(thread)).messages if not m.outgoing]
                if not incoming:
                    raise BadInput(f"{thread} has no incoming message to answer; name a message (m45)")
                original = str(incoming[-1].id)
            sent = await box.reply(
                original, body(text), reply_all=reply_all, quote=quote, attachments=files(attach), key=key
            )
            if sent.thread is not None:  # a person answered: no agent needs to
                await box.settle(sent.thread)
            await tell_of_pauses(box, sent)
            report(sent.model_dump_json(), f"{sent.id} {sent.state}: {sent.message_id} in {sent.thread}", as_json)

    run(work)


@app.command()
def send(
    to: Annotated[list[str], typer.Argument(metavar="ADDRESS…", help="Who gets it.")],
    subject: Annotated[str, typer.Option("--subject", "-s", help="One line.")],
    text: Body = None,
    cc: Annotated[list[str] | None, typer.Option("--cc", help="A further recipient; may be given again.")] = None,
    attach: Attach = None,
    key: Annotated[str | None, typer.Option("--key", help="The same key never sends twice.")] = None,
    store: Store = None,
    agent: Agent = None,
    as_json: AsJson = False,
) -> None:
    """Start a new thread."""

    async def work() -> None:
        async with inbox(store, agent) as box:
            sent = await box.send(
                to=to, subject=subject, text=body(text), cc=cc or (), attachments=files(attach), key=key
            )
            await tell_of_pauses(box, sent)
            report(sent.model_dump_json(), f"{sent.id} {sent.state}: {sent.message_id} in {sent.thread}", as_json)

    run(work)


@app.command()
def explain(
    message: Annotated[str, typer.Argument(metavar="M", help="A message (m45 or its Message-ID).")],
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Say why a message stands in its thread.

    The header or rule that decided, what was matched, what was rejected.
    """

    async def work() -> None:
        async with ThreadStore(settings(store=store).store) as thread_store:
            why = await thread_store.explain(message)
            report(why.model_dump_json(), why_shown(message, why), as_json)

    run(work)


def why_shown(message: str, why: Why) -> str:
    """For people: the verdict as a sentence, then a line for every id that counted and every thread that did not."""
    lines = [f"{message}: {why.rule}, {why.confidence}" + (f" ({why.note})" if why.note else "")]
    if why.parent:
        lines.append(f"      answers  {why.parent}")
    if why.claimed_parent:
        lines.append(f"       claims  to answer {why.claimed_parent}")
    for match in why.matched:
        owner = f"{match.message} in {match.thread}" if match.message else f"not seen yet, mentioned in {match.thread}"
        lines.append(f"      matched  {match.header} {match.message_id}: {owner}")
    for rejected in why.rejected:
        by = f" by {rejected.message_id}" if rejected.message_id else ""
        lines.append(f"     rejected  {rejected.thread}{by}: {rejected.reason}")
    return "\n".join(lines)


@app.command("config")
def show_config(store: Store = None, agent: Agent = None, as_json: AsJson = False) -> None:
    """Print the settings in force, without the secrets.

    And where each comes from: an argument, the environment, .env, agentmail.toml, or the default.
    """
    found = settings(store=store, agent=agent)
    values = {name: found.printable(name) for name in Settings.model_fields}
    if as_json:
        sys.stdout.write(json.dumps(values, ensure_ascii=False) + "\n")
        return
    sources = Settings.sources(store=store, agent=agent)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")  # a value that is cut may be another one
    table.add_column(no_wrap=True)
    for name, value in values.items():
        source = sources.get(name)
        shown = plain(", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value))
        table.add_row(
            Text(name, style="bold" if source else "dim"), Text(shown), Text(source or "default", style="dim")
        )
    out.print(table)
    for variable, meant in Settings.misspelt().items():
        err.print(Text(plain(f"{variable} is no setting; do you mean {meant}?")), soft_wrap=True)


@app.command()
def demo(
    store: Store = None,
) -> None:
    """Play the main job on a mail server of its own.

    It runs inside this process: people, two agents, one thread, and its proof.
    """
    from ..testing.demo import run as play  # needs the extra `testing`; nothing else in the command does

    raise typer.Exit(play(store))


def body(text: str | None) -> str:
    """The text given, or standard input."""
    if text is None:
        if sys.stdin.isatty():
            err.print("write the text, then Ctrl-D")
        text = sys.stdin.read()
    if not text.strip():
        raise BadInput("there is nothing to send: give --text, or write to standard input")
    return text


def files(paths: list[Path] | None) -> list[Attachment]:
    return [Attachment(name=p.name, content=(raw := read(p)), size=len(raw)) for p in paths or ()]


async def tell_of_pauses(box: Inbox, *waiting: Sent) -> None:
    """Say why mail waits, where the account is why: the rows themselves do not."""
    if any(sent.state == "queued" for sent in waiting):
        for cause, reason in await box.paused():
            words = f"paused ({cause}): {reason}"
            err.print(Text.assemble((words, "bold yellow"), "; `agentmail outbox resume` lifts it"), soft_wrap=True)


def report(as_line: str, for_people: str, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(as_line + "\n")
    else:
        out.print(Text(for_people), soft_wrap=True)
