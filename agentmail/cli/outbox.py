"""Commands on submissions: what waits, what failed, what nobody knows, and a person's yes or no."""

from __future__ import annotations

import getpass
import sys
from enum import StrEnum
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from ..errors import BadInput
from ..message.parse import parse
from ..sent import Sent
from .app import AsJson, Store, app, err, headline, out, run
from .files import show_message
from .mail import Body, body, inbox, report, tell_of_pauses

outbox = typer.Typer(
    help="What was sent, what waits, what is held: look, and decide.\n\nWithout a verb, the newest 50."
)
app.add_typer(outbox, name="outbox", invoke_without_command=True)

Id = Annotated[str, typer.Argument(metavar="O", help="A submission, such as o3.")]
By = Annotated[str | None, typer.Option("--by", help="Who decides; the name of the user running it when left out.")]


class State(StrEnum):
    """The states of a submission; typer reads a list of choices from an enumeration, not from a Literal."""

    HELD = "held"
    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"
    UNKNOWN = "unknown"
    CANCELED = "canceled"


def me(by: str | None) -> str:
    """Who decided is kept for good, so somebody must be named."""
    try:
        return by or getpass.getuser()
    except (KeyError, OSError) as exc:
        raise BadInput("say who decides: --by NAME") from exc


@outbox.callback()
def default(context: typer.Context, store: Store = None, as_json: AsJson = False) -> None:
    """The newest 50 of them, as `list` has them."""
    if context.invoked_subcommand is None:
        list_(store=store, as_json=as_json)
    elif store is not None or as_json:
        raise typer.BadParameter(f"options of `outbox {context.invoked_subcommand}` stand behind it")


@outbox.command("list")
def list_(
    state: Annotated[list[State] | None, typer.Option("--state", help="Only these; may be given again.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1)] = 50,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """List submissions, newest first."""

    async def work() -> list[Sent]:
        async with inbox(store) as box:
            found = await box.outbox(*(s.value for s in state or ()), limit=limit)
            await tell_of_pauses(box, *found)
            return found

    rows = run(work)
    if as_json:
        for row in rows:
            sys.stdout.write(row.model_dump_json() + "\n")
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("id", "state", "to", "subject", "why"):
        table.add_column(column, overflow="fold", no_wrap=column in {"id", "state"})
    for row in rows:
        why = row.error or "; ".join(row.reasons)
        to = ", ".join(r.address for r in row.recipients[:3]) + (" …" if len(row.recipients) > 3 else "")
        table.add_row(*map(Text, (row.id, row.state, to, headline(row.subject), why)))
    out.print(table if rows else "nothing was submitted yet")


@outbox.command()
def show(id: Id, store: Store = None, as_json: AsJson = False) -> None:  # noqa: A002
    """Show one submission, with the exact content.

    And with the fingerprint that an approval can be bound to.
    """

    async def work() -> None:
        async with inbox(store) as box:
            row = await box.submission(id)
            if as_json:
                sys.stdout.write(row.model_dump_json() + "\n")
                return
            describe(row)
            out.print(Text.assemble((f"{'Fingerprint':>12}  ", "bold"), await box.fingerprint(id)), soft_wrap=True)
            show_message(parse(await box.submission_raw(id)))

    run(work)


def describe(row: Sent) -> None:
    lines = [("State", row.state), ("Why", row.error or "; ".join(row.reasons)), ("Decided by", row.decided_by)]
    lines += [(r.state.capitalize(), f"{r.address} {r.text}".strip()) for r in row.recipients]
    out.print(Text(f"{row.id}  {headline(row.subject)}", style="bold"), soft_wrap=True)
    for name, value in lines:
        if value:
            out.print(Text.assemble((f"{name:>12}  ", "bold"), value), soft_wrap=True)


@outbox.command()
def approve(
    id: Id,  # noqa: A002
    by: By = None,
    fingerprint: Annotated[
        str | None, typer.Option("--fingerprint", help="Refuse when the content is another.")
    ] = None,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Let a held submission go, exactly as it is."""

    async def work() -> Sent:
        async with inbox(store) as box:
            return await box.approve(id, by=me(by), fingerprint=fingerprint)

    tell(run(work), as_json)


@outbox.command()
def deny(
    id: Id,  # noqa: A002
    by: By = None,
    reason: Annotated[str, typer.Option("--reason", help="The agent hears it.")] = "",
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Never send a held submission."""

    async def work() -> Sent:
        async with inbox(store) as box:
            return await box.deny(id, by=me(by), reason=reason)

    tell(run(work), as_json)


@outbox.command()
def edit(
    id: Id,  # noqa: A002
    text: Body = None,
    by: By = None,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Replace what a held submission says, and let it go.

    Same people, subject, thread, attachments and quote.
    """
    written = body(text)

    async def work() -> Sent:
        async with inbox(store) as box:
            return await box.edit(id, written, by=me(by))

    tell(run(work), as_json)


@outbox.command()
def cancel(id: Id, by: By = None, store: Store = None, as_json: AsJson = False) -> None:  # noqa: A002
    """Stop a submission that did not go yet."""

    async def work() -> Sent:
        async with inbox(store) as box:
            return await box.cancel(id, by=me(by))

    tell(run(work), as_json)


@outbox.command()
def retry(id: Id, by: By = None, store: Store = None, as_json: AsJson = False) -> None:  # noqa: A002
    """Try a failed or waiting submission again, now."""

    async def work() -> Sent:
        async with inbox(store) as box:
            return await box.retry(id, by=me(by))

    tell(run(work), as_json)


@outbox.command()
def resolve(
    id: Id,  # noqa: A002
    sent: Annotated[
        bool | None, typer.Option("--sent/--not-sent", help="What you found out: did it go? One of the two is needed.")
    ] = None,
    by: By = None,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Say what became of an unknown submission.

    --not-sent sends it again, with the same Message-ID.
    """
    if sent is None:
        raise typer.BadParameter("what did you find out? --sent or --not-sent")

    async def work() -> Sent:
        async with inbox(store) as box:
            return await box.resolve(id, sent=sent, by=me(by))

    tell(run(work), as_json)


@outbox.command()
def pause(
    reason: Annotated[str, typer.Argument(metavar="REASON", help="Why; everybody who asks is told.")],
    every: Annotated[bool, typer.Option("--every", help="Every account of this store.")] = False,
    by: By = None,
    store: Store = None,
) -> None:
    """Hold everything that is not on its way yet."""

    async def work() -> None:
        async with inbox(store) as box:
            await box.pause(by=me(by), reason=reason, every=every)
            whose, verb = ("any account", "resume --every") if every else (box.account.address, "resume")
            out.print(Text(f"paused: nothing of {whose} leaves until `agentmail outbox {verb}`"), soft_wrap=True)

    run(work)


@outbox.command()
def resume(
    every: Annotated[bool, typer.Option("--every", help="The pause of every account of this store.")] = False,
    by: By = None,
    store: Store = None,
) -> None:
    """Lift the pause. Exit code 1 when there was none."""

    async def work() -> bool:
        async with inbox(store) as box:
            return await box.resume(by=me(by), every=every)

    if not run(work):
        err.print("nothing was paused")
        raise typer.Exit(1)
    out.print("resumed")


def tell(row: Sent, as_json: bool) -> None:
    report(row.model_dump_json(), f"{row.id} {row.state}{': ' + row.error if row.error else ''}", as_json)
