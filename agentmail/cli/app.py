"""The application object, the options every command shares, and how a failure ends the process."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Iterator
from importlib.metadata import version
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.text import Text

from ..errors import AgentMailError
from ..message.characters import on_one_line
from ..settings import Settings

T = TypeVar("T")

app = typer.Typer(
    name="agentmail",
    help="An inbox for AI agents on any IMAP/SMTP account.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"agentmail {version('agentmail-inbox')}")
        raise typer.Exit


@app.callback()
def root(
    asked: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """An inbox for AI agents on any IMAP/SMTP account."""


out = Console(highlight=False, markup=False, emoji=False)
err = Console(stderr=True, highlight=False, markup=False, emoji=False)

Store = Annotated[
    str | None,
    typer.Option(
        "--store", metavar="URL", help="The thread store: sqlite:///file.db or postgresql://user@host/database."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line, for programs.")]
Agent = Annotated[str | None, typer.Option("--agent", help="The name to act under.")]


def headline(subject: str, limit: int = 200) -> str:
    """A subject on one line, without what reorders a line or is not seen: to answer it keeps what it was sent with.

    A subject may have 50,000 characters, and a list of threads is not the place for them; `--json` has them all.
    """
    line = on_one_line(subject, limit + 1)
    return (line if len(line) <= limit else line[:limit] + "…") or "(no subject)"


def count(number: int, what: str) -> str:
    """`1 message`, `1,000 messages`."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def plain(text: str) -> str:
    """A text that others chose, such as the name of a file, without what a terminal would obey."""
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in text)


def settings(**given: Any) -> Settings:
    return Settings.load(**given)


def run(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run one command's coroutine to its end."""
    return asyncio.run(work())


def start(app: typer.Typer) -> None:
    """Run the command line: every error we raise on purpose becomes one sentence on stderr and exit code 3."""
    # Mail holds every script; a terminal or a pipe with another encoding must not end the command.
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")
    try:
        app(standalone_mode=True)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except (AgentMailError, BaseExceptionGroup) as exc:
        ours = list(_ours(exc))
        if not ours:
            raise
        for error in ours:
            err.print(Text.assemble(("agentmail: ", "bold red"), plain(str(error))), soft_wrap=True)
        raise SystemExit(3) from None


def _ours(exc: BaseException) -> Iterator[AgentMailError]:
    """Our errors, also those that a task group wrapped; nothing when a foreign error is among them."""
    if isinstance(exc, AgentMailError):
        yield exc
    elif isinstance(exc, BaseExceptionGroup) and exc.split(AgentMailError)[1] is None:
        for inner in exc.exceptions:
            yield from _ours(inner)
