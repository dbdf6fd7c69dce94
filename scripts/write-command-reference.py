"""Write docs/reference/command.md from the command's own help. A test compares; `make docs` runs this."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import typer.main

from agentmail.cli.commands import load

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "command.md"
INTRODUCTION = """\
# The command

`agentmail`, or `python -m agentmail`.
Exit codes: 0 done; 1 the answer is "no"; 2 usage; 3 settings, the server or the store failed.
What follows is its own `--help`.

"""


def page() -> str:
    """The whole page."""
    command = typer.main.get_command(load())
    return INTRODUCTION + "\n".join(sections(command, "agentmail"))


def sections(command: click.Command, name: str) -> list[str]:
    context = click.Context(
        command, info_name=name, terminal_width=80, max_content_width=80, help_option_names=["-h", "--help"]
    )
    out = [f"## {name}\n\n```text\n{command.get_help(context).rstrip()}\n```\n"]
    for child, sub in sorted(getattr(command, "commands", {}).items()):
        out += sections(sub, f"{name} {child}")
    return out


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
    sys.stdout.write(f"wrote {PAGE}\n")
