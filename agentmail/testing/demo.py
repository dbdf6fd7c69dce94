"""One story, played on a mail server inside this process: `agentmail demo`.

Ana writes to an address that two agents share. `triage` answers, in this process. Ana answers from Gmail, later from
Outlook. `billing`, in another process, finds the thread in the shared store and answers. Then Ana's mailbox is opened,
and what is in it, byte for byte, is judged.
"""

from __future__ import annotations

import asyncio
import json
import os
import smtplib
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text
from rich.tree import Tree

from ..errors import AgentMailError
from ..inbox import Inbox
from ..message.models import Message
from ..message.parse import parse
from ..settings import Account
from .clock import ManualClock
from .demo_agent import NOW
from .embedded import EmbeddedMail
from .people import Person
from .verdict import Finding, Wire, judge

ANA, AGENTS, PASSWORD = "ana@demo.local", "agents@demo.local", "demo"
SUBJECT = "Kick-off in Lisbon – and an invoice?"
DEADLINE = 60.0
"""Seconds that any one step may take."""


@dataclass
class Story:
    """What was played: who wrote which message, what Ana's mailbox holds, what the second agent saw."""

    wrote: dict[str, str] = field(default_factory=dict)
    """Message-ID -> who, and by what."""
    mailbox: list[bytes] = field(default_factory=list)
    """Ana's mail, sent and received, in the order of the story."""
    before: int = 0
    """How many messages the thread had when the second agent came to it."""
    saw: Mapping[str, Any] = field(default_factory=dict)
    """The second agent's own words."""
    thread: str = ""


def run(store: str | None = None, *, console: Console | None = None) -> int:
    """Play the story and print it; 0 when the thread is whole, 1 when it is not.

    Args:
        store: The URL of a thread store; a SQLite file in a temporary directory when None.
    """
    console = console or Console(highlight=False, markup=False, emoji=False, soft_wrap=not sys.stdout.isatty())
    with tempfile.TemporaryDirectory(prefix="agentmail-demo-") as directory:
        started = datetime.now(UTC)
        url = _absolute(store) if store else f"sqlite:///{Path(directory) / 'store.db'}"
        story = asyncio.run(play(url, Path(directory)))
        findings = (*judge(story.mailbox), whole_history(story))
        show(console, story, findings, seconds=(datetime.now(UTC) - started).total_seconds())
    return 0 if all(f.holds for f in findings) else 1


async def play(store: str, directory: Path) -> Story:
    """Play it; nothing is judged here."""
    story = Story()
    yesterday = datetime.now(UTC) - timedelta(days=1)
    clock = ManualClock(yesterday.replace(hour=9, minute=14, second=0, microsecond=0))
    async with AsyncExitStack() as stack:
        mail = await stack.enter_async_context(EmbeddedMail({ANA: PASSWORD, AGENTS: PASSWORD}))
        account = mail.account(AGENTS, name="Northwind")
        triage = await stack.enter_async_context(Inbox(account, store=store, agent="triage", clock=clock))
        ana = Person(ANA, "Ana Ruiz", client="gmail")
        await triage.receive()

        first = ana.write(
            f"Northwind <{AGENTS}>", SUBJECT, "Hello,\n\ncould we start on Tuesday? And who sends the invoice?\n\nAna",
            now=clock(),
        )  # fmt: skip
        await _send(mail, first)
        story.wrote[Wire.read(first).message_id] = "Ana, in Gmail"

        await clock.advance(timedelta(minutes=4))
        letter = await _next(triage)
        answer = await triage.reply(
            letter, "Hello Ana,\n\nTuesday at ten is fine. Where should the invoice go?\n\nTriage"
        )
        story.wrote[answer.message_id] = f"triage, in process {os.getpid()}"
        story.thread = str(letter.thread)
        received = await _received(mail, answer.message_id)

        for client, name, pause, text in (
            ("gmail", "Gmail", timedelta(minutes=38), "Ten is perfect. Let me look up the address."),
            ("outlook", "Outlook", timedelta(hours=2), "Now at my desk: please send it to our new office in Lisbon."),
        ):
            await clock.advance(pause)
            raw = Person(ANA, "Ana Ruiz", client=client).reply(received, text, now=clock())
            await _send(mail, raw)
            story.wrote[Wire.read(raw).message_id] = f"Ana, in {name}"
            await triage.receive()

        story.before = len((await triage.thread(story.thread)).messages)
        await clock.advance(timedelta(minutes=11))
        story.saw = await _second_agent(account, store, clock(), directory)
        if "message_id" in story.saw:
            story.wrote[str(story.saw["message_id"])] = f"billing, in process {story.saw['process']}"

        held = [*await mail.messages(ANA, "Sent"), *await mail.messages(ANA)]
        order = list(story.wrote)
        story.mailbox = sorted(held, key=lambda raw: _place(order, Wire.read(raw).message_id))
    return story


def whole_history(story: Story) -> Finding:
    """Whether the second agent, in its own process, saw the thread with every message in it."""
    problems, seen = [], set(story.saw.get("message_ids", ()))
    if not story.saw:
        problems.append("billing found nothing to answer")
    elif story.saw.get("thread") != story.thread:
        problems.append(f"billing worked in {story.saw.get('thread')}, triage in {story.thread}")
    problems += [f"billing did not see {who}: {i}" for i, who in list(story.wrote.items())[:-1] if i not in seen]
    if len(story.mailbox) != 5:
        problems.append(f"Ana's mailbox holds {len(story.mailbox)} messages, not 5")
    claim = f"billing read the whole thread first ({len(seen)} of {story.before}), in another process"
    return Finding(not problems, claim, tuple(problems))


# -- the mailbox of a person, who has no agentmail


async def _send(mail: EmbeddedMail, raw: bytes) -> None:
    """Submit by SMTP, and keep a copy in Sent, as mail clients do."""

    def submit() -> None:
        with smtplib.SMTP(mail.host, mail.smtp_port, local_hostname="ana.demo.local", timeout=DEADLINE) as smtp:
            smtp.login(ANA, PASSWORD)
            smtp.sendmail(ANA, [AGENTS], raw)

    await asyncio.to_thread(submit)
    await mail.deliver(ANA, raw, "Sent", flags=[b"\\Seen"])


async def _received(mail: EmbeddedMail, message_id: str) -> bytes:
    for raw in await mail.messages(ANA):
        if Wire.read(raw).message_id == message_id:
            return raw
    raise AgentMailError(f"the answer {message_id} did not arrive in Ana's mailbox")


# -- the agents


async def _next(inbox: Inbox) -> Message:
    messages = await inbox.receive()
    if not messages:
        raise AgentMailError(f"nothing arrived for {inbox.agent} in {inbox.account.address}")
    return messages[-1]


async def _second_agent(account: Account, store: str, now: datetime, directory: Path) -> Mapping[str, Any]:
    """Run `billing` as a process whose only knowledge is its environment."""
    fields = ("address", "name", "imap_host", "imap_port", "imap_security", "smtp_host", "smtp_port", "smtp_security")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AGENTMAIL_")} | {
        **{f"AGENTMAIL_{name.upper()}": str(getattr(account, name)) for name in fields},
        "AGENTMAIL_PASSWORD": PASSWORD, "AGENTMAIL_STORE": store, "AGENTMAIL_AGENT": "billing", NOW: now.isoformat(),
        # the same code, also when it is run from a checkout that was never installed
        "PYTHONPATH": os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")])),
    }  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "agentmail.testing.demo_agent", env=environment, cwd=directory,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(DEADLINE):
            output, errors = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise AgentMailError(f"the second agent did not end within {DEADLINE:.0f} s") from None
    if process.returncode:
        last = errors.decode(errors="replace").strip().rpartition("\n")[2]
        raise AgentMailError(f"the second agent ended with code {process.returncode}: {last or 'nothing to answer'}")
    saw: Mapping[str, Any] = json.loads(output)
    return saw


def _absolute(store: str) -> str:
    """The second agent runs elsewhere: a SQLite file is named so that both mean the same."""
    scheme, three, path = store.partition(":///")
    if scheme.startswith("sqlite") and three and path and not path.startswith("/"):
        return f"{scheme}:///{Path(path).resolve()}"
    return store


def _place(order: Sequence[str], message_id: str) -> int:
    return order.index(message_id) if message_id in order else len(order)


# -- what a person sees


def show(console: Console, story: Story, findings: Sequence[Finding], *, seconds: float) -> None:
    """Print the thread, its headers as Ana's mailbox holds them, and the verdict."""
    wires = [Wire.read(raw) for raw in story.mailbox]
    numbers = {wire.message_id: number for number, wire in enumerate(wires, 1)}
    console.print(_tree(story, wires, numbers))
    console.print()
    console.print(Text("The headers, as Ana's mailbox holds them", "bold"))
    for wire in wires:
        console.print(_headers(wire, numbers, story.wrote.get(wire.message_id, "somebody")))
        console.print()
    for finding in findings:
        mark = ("ok     ", "green") if finding.holds else ("BROKEN ", "bold red")
        console.print(Text.assemble(mark, finding.claim))
        for problem in finding.problems:
            console.print(Padding(Text(problem, "red"), (0, 0, 0, 7)))
    console.print()
    whole = all(f.holds for f in findings)
    if whole:
        verdict = ", ".join(finding.claim for finding in findings[:3])
        console.print(Text.assemble(("One thread in every mail client: ", "bold green"), f"{verdict}."))
    else:
        console.print(Text.assemble(("The thread is broken", "bold red"), ": see above."))
    console.print(Text(f"{len(wires)} messages, 2 agents in 2 processes, {seconds:.1f} s", "dim"))


def _tree(story: Story, wires: Sequence[Wire], numbers: Mapping[str, int]) -> Tree:
    subject = wires[0].subject if wires else ""
    top = Tree(Text(f"{story.thread}  {subject}", "bold"), guide_style="dim")
    branches: dict[str, Tree] = {}
    for wire, raw in zip(wires, story.mailbox, strict=True):
        message = parse(raw)
        at = f"{message.sent_at:%H:%M}" if message.sent_at else "--:--"
        first = next((x for x in message.new_text.splitlines() if x.strip() and not x.startswith("Hello")), "")
        line = Text.assemble((f"[{numbers[wire.message_id]}] ", "cyan"), (at, "dim"), " ",
                             (story.wrote.get(wire.message_id, "somebody"), "bold"), "\n", first)  # fmt: skip
        branches[wire.message_id] = branches.get(wire.parent, top).add(line)
    return top


def _headers(wire: Wire, numbers: Mapping[str, int], who: str) -> Text:
    """One header a line, one id a line; with the number of the message that each id names."""

    def named(message_id: str) -> str:
        return f"{message_id} [{numbers.get(message_id, '?')}]"

    text = Text.assemble((f"[{numbers[wire.message_id]}] ", "cyan"), (who, "bold"), overflow="fold")
    rows = [
        ("Subject", [wire.subject]),
        ("Message-ID", list(wire.message_ids)),
        ("In-Reply-To", [named(i) for i in wire.in_reply_to]),
        ("References", [named(i) for i in wire.references]),
    ]
    if wire.thread_index:
        rows.append(("Thread-Index", [wire.thread_index]))
    for name, values in rows:
        for number, value in enumerate(values):
            label = f"{name}: " if number == 0 else ""
            text.append(f"\n    {label:<14}", "dim")
            # On a narrow terminal an id is folded; anywhere else it stays in one piece, to be found by a program.
            text.append(value)
    return text
