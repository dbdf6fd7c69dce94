"""Every snippet of README.md and docs/ runs, against a mail server with one letter in it.

A python block that calls `asyncio.run` is a whole program. Any other is a fragment: it runs inside a coroutine that
has `inbox`, `account`, `store`, `message` and `raw`. Shell blocks are checked for commands and variables that exist.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from agentmail.settings import Settings
from agentmail.testing import EmbeddedMail

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LETTER = (
    b"From: Ana Ruiz <ana@demo.local>\r\nTo: agent@demo.local\r\nSubject: Kick-off next week?\r\n"
    b"Message-ID: <first@demo.local>\r\nDate: Fri, 20 Nov 2026 09:14:00 +0100\r\n\r\nCould we do Tuesday?\r\n"
)
PRELUDE = """
import asyncio
from datetime import *
from agentmail import *

async def main():
    raw = {letter!r}
    async with Inbox.from_env() as inbox:
        account, store = inbox.account, inbox.store
        [message] = await inbox.receive()
{body}

asyncio.run(main())
"""


class Block(NamedTuple):
    page: str
    line: int
    language: str
    text: str


def blocks() -> Iterator[Block]:
    for page in PAGES:
        text = page.read_text("utf-8")
        for match in re.finditer(r"^```(\w+)[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            yield Block(str(page.relative_to(ROOT)), text.count("\n", 0, match.start()) + 1, match[1], match[2])


def some(*languages: str) -> list[object]:
    return [pytest.param(b, id=f"{b.page}:{b.line}") for b in blocks() if b.language in languages]


@pytest.mark.parametrize("block", some("python"))
async def test_python_block_runs(block: Block, tmp_path: Path) -> None:
    program = block.text
    if "asyncio.run" not in program:
        program = PRELUDE.format(letter=LETTER, body=textwrap.indent(program, " " * 8))
    async with EmbeddedMail({"agent@demo.local": "demo", "ana@demo.local": "demo"}) as mail:
        await mail.deliver("agent@demo.local", LETTER)
        account = mail.account("agent@demo.local")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("AGENTMAIL_")} | {
            "AGENTMAIL_ADDRESS": account.address,
            "AGENTMAIL_PASSWORD": "demo",
            **{
                f"AGENTMAIL_{name.upper()}": str(getattr(account, name))
                for name in ("imap_host", "imap_port", "imap_security", "smtp_host", "smtp_port", "smtp_security")
            },
            "PYTHONWARNINGS": "error",
            "PYTHONPATH": str(ROOT),
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, cwd=tmp_path, env=environment,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        async with asyncio.timeout(60):
            output, _ = await process.communicate()
    assert process.returncode == 0, f"{block.page}:{block.line}\n{output.decode()}\n{program}"


@pytest.mark.parametrize("block", some("sh", "console", "bash"))
def test_shell_block_names_what_exists(block: Block) -> None:
    from typer.main import get_command

    from agentmail.cli.commands import load

    commands = set(get_command(load()).commands)  # type: ignore[attr-defined]
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for line in block.text.splitlines():
        for word in re.findall(r"\bagentmail ([a-z]+)", line.partition("#")[0]):
            assert word in commands, f"{block.page}:{block.line}: there is no `agentmail {word}`"
        for variable in re.findall(r"\bAGENTMAIL_([A-Z_]+)", line):
            assert variable.lower() in Settings.model_fields or variable.startswith("TEST_"), f"no setting {variable}"
        for target in re.findall(r"^make ([a-z]+)", line):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"no make target {target}"


def test_links_between_pages_lead_somewhere() -> None:
    dead = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
        if not (page.parent / target).exists()
    ]
    assert dead == []
