"""Which module has which command: one command starts without what the others need.

The database library and the mail servers' together take longer to import than most commands to run.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

import typer

from .app import app

COMMANDS = {
    "assign": "mail",
    "check": "receiving",
    "config": "mail",
    "demo": "mail",
    "doctor": "doctor",
    "explain": "mail",
    "forget": "archive",
    "import": "archive",
    "login": "login",
    "outbox": "outbox",
    "parse": "files",
    "reply": "mail",
    "search": "archive",
    "send": "mail",
    "show": "mail",
    "size": "archive",
    "sync": "receiving",
    "threads": "mail",
}


def load(words: Sequence[str] = ()) -> typer.Typer:
    """The application with the command that a command line begins with; with every command if that names none."""
    modules = {COMMANDS[words[0]]} if words and words[0] in COMMANDS else set(COMMANDS.values())
    if list(words) == ["--version"]:
        modules = set()
    for module in sorted(modules):
        import_module(f"{__package__}.{module}")
    return app
