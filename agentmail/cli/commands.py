"""Which module has which command: one command starts without what the others need.

The database library and the mail servers' together take longer to import than most commands to run.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

import typer
from typer.models import CommandInfo

from .app import app

COMMANDS = {
    "demo": "mail",
    "check": "receiving",
    "login": "login",
    "sync": "receiving",
    "import": "archive",
    "threads": "mail",
    "show": "mail",
    "explain": "mail",
    "assign": "mail",
    "reply": "mail",
    "send": "mail",
    "search": "archive",
    "forget": "archive",
    "size": "archive",
    "parse": "files",
    "doctor": "doctor",
    "config": "mail",
    "outbox": "outbox",
}
"""In the order of the help: what a newcomer needs first."""


def load(words: Sequence[str] = ()) -> typer.Typer:
    """The application with the command that a command line begins with; with every command if that names none."""
    modules = {COMMANDS[words[0]]} if words and words[0] in COMMANDS else set(COMMANDS.values())
    if list(words) == ["--version"]:
        modules = set()
    for module in sorted(modules):
        import_module(f"{__package__}.{module}")
    app.registered_commands.sort(key=_place)  # whatever came first
    return app


def _place(command: CommandInfo) -> int:
    name = command.name or getattr(command.callback, "__name__", "")
    return list(COMMANDS).index(str(name))
