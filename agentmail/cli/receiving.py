"""Commands on an account's server: check, sync."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from ..errors import AgentMailError
from ..inbox import Inbox
from ..mailsync import FirstRun, Look, preparing_ahead
from ..mailsync.ahead import FEW
from ..message.characters import on_one_line
from ..store.log import Event
from ..unbroken import TaskGroup
from ..webhooks import Webhooks
from .app import AsJson, Store, app, count, err, out, plain, run, settings

CLOCK = 5.0
"""Seconds by which two clocks may differ before it is said: leases and times in threads go by them."""
PROMPT = 60.0
"""Seconds from the Date of a mail to its arrival that are nothing unusual."""
_CAN = {
    "IDLE": "tells of new mail at once", "QRESYNC": "tells what changed and who left",
    "CONDSTORE": "tells what changed", "MOVE": "moves", "UIDPLUS": "expunges one message",
    "SPECIAL-USE": "says which mailbox is Sent",
    "X-GM-EXT-1": "Gmail's labels",
}  # fmt: skip


class Checks:
    """One line for each step, as it is done: for people, or for programs."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json, self.failed = as_json, 0

    async def step(self, name: str, where: str, work: Callable[[], Awaitable[tuple[list[str], dict[str, Any]]]]) -> Any:
        """Do it, and say how it went; what it found, or None when it failed."""
        try:
            lines, found = await work()
        except AgentMailError as exc:
            self.failed += 1
            self._say("✗", name, where, [str(exc)], {"ok": False, "problem": str(exc)})
            return None
        self._say("✓", name, where, lines, {"ok": True, **found})
        return found

    def warn(self, name: str, problem: str) -> None:
        """Something that works and will not work well."""
        self._say("!", name, problem, [], {"ok": True, "problem": problem})

    def skipped(self, name: str, why: str) -> None:
        if not self.as_json:
            out.print(Text.assemble(("– ", "dim"), f"{name:<8}", (why, "dim")), soft_wrap=True)

    def _say(self, sign: str, name: str, where: str, lines: list[str], row: dict[str, Any]) -> None:
        if self.as_json:
            sys.stdout.write(json.dumps({"step": name, **row}, ensure_ascii=False) + "\n")
            sys.stdout.flush()
            return
        colour = {"✓": "bold green", "✗": "bold red", "!": "bold yellow"}[sign]
        out.print(Text.assemble((f"{sign} ", colour), f"{name:<8}", plain(where)), soft_wrap=True)
        for line in lines:  # a server chose the names of its mailboxes
            out.print(Text(plain(f"          {line}")), soft_wrap=True)


@app.command()
def check(
    store: Store = None,
    send: Annotated[
        bool, typer.Option("--send", help="Send one mail from the account to itself, and see whether it arrives.")
    ] = False,
    wait: Annotated[float, typer.Option("--wait", min=1, help="Seconds to wait for that mail.")] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Log in on both servers, and say what is wrong.

    It opens the store too, says what the servers can do, and how to mend what is wrong. Nothing is read into the store,
    and nothing is sent unless you say `--send`.
    """
    checks = Checks(as_json=as_json)
    where = settings(store=store).printable("store")

    async def work() -> None:
        async with Inbox.from_env(store=store) as box:
            account = box.account

            async def opened() -> tuple[list[str], dict[str, Any]]:
                await box.store.open()
                return [], {"store": where}

            async def looked() -> tuple[list[str], dict[str, Any]]:
                return _seen(look := await box.look()), {
                    "capabilities": sorted(look.capabilities), "messages": look.messages, "seconds": look.seconds,
                    "mailboxes": [{"name": b.name, "role": b.role} for b in look.boxes],
                    "newest": look.newest.isoformat() if look.newest else None, "_look": look,
                    "transits": list(look.transits),
                }  # fmt: skip

            async def sending() -> tuple[list[str], dict[str, Any]]:
                found = await box.check_sending()
                return [found], {"found": found}

            async def there_and_back() -> tuple[list[str], dict[str, Any]]:
                trip = await box.mail_to_self(wait=wait)
                said = f"arrived after {trip.seconds:.1f} s"
                return [said], {"message_id": trip.message_id, "seconds": trip.seconds, "skew": trip.skew}

            await checks.step("store", where, opened)
            imap = f"{account.imap_host}:{account.imap_port} ({account.imap_security})"
            found = await checks.step("IMAP", imap, _hiding(looked))
            smtp = f"{account.smtp_host}:{account.smtp_port} ({account.smtp_security})"
            can_send = await checks.step("SMTP", smtp, sending)
            skew = None
            if send and found and can_send:
                trip = await checks.step("mail", f"from {account.address} to itself", there_and_back)
                skew = trip["skew"] if trip else None
            else:
                checks.skipped("mail", "whether mail arrives was not tried: --send sends one to yourself")
            if checks.failed == 0 or found:
                await _clocks(checks, box, found, skew)
            health = await box.health()
            if health.state not in {"ok", "unreachable"} and found:
                checks.warn("account", f"{health.state}: {health.error}")
            for box_ in health.mailboxes:
                if box_.error:
                    checks.warn("mailbox", f"{box_.name}: {box_.error}")
            if health.skipped:
                checks.warn(
                    "mail", f"{health.skipped} messages could not be fetched; `await inbox.health()` counts them"
                )
            hooks = Webhooks(box.store, settings(store=store).webhooks, account=account.key)
            for label, error in (await hooks.errors()).items():
                checks.failed += bool(error)
                checks._say("✗" if error else "✓", "webhook", label, [error] if error else [],  # noqa: SLF001
                            {"label": label, "ok": not error, **({"problem": error} if error else {})})  # fmt: skip

    run(work)
    if checks.failed:
        raise typer.Exit(3)


def _hiding(
    work: Callable[[], Awaitable[tuple[list[str], dict[str, Any]]]],
) -> Callable[[], Awaitable[tuple[list[str], dict[str, Any]]]]:
    async def without() -> tuple[list[str], dict[str, Any]]:
        lines, found = await work()
        found.pop("_look")
        return lines, found

    return without


def _seen(look: Look) -> list[str]:
    """What a login found, in words."""
    can = [words for name, words in _CAN.items() if name in look.capabilities]
    if "QRESYNC" in look.capabilities:
        can.remove(_CAN["CONDSTORE"])
    lines = [f"logged in after {look.seconds:.2f} s; {', '.join(can) or 'plain IMAP4rev1'}"]
    if "IDLE" not in look.capabilities:
        lines.append("it cannot tell of new mail (no IDLE), so it is asked every 30 seconds")
    roles = [f"{b.name} ({b.role})" for b in look.boxes if b.role]
    others = sum(not b.role for b in look.boxes)
    lines.append(f"mailboxes: {', '.join(roles)}" + (f", and {others} more" if others else ""))
    if not any(b.role == "sent" for b in look.boxes):
        lines.append("no Sent mailbox was found, so what you answer by hand joins no thread: make one named Sent")
    lines.append(f"{count(look.messages, 'message')} in the INBOX")
    return lines


async def _clocks(checks: Checks, box: Inbox, found: dict[str, Any] | None, skew: float | None) -> None:
    """Our clock beside the store's, and beside the mail server's as far as it shows."""
    before = datetime.now(UTC)
    theirs = await box.store.time()
    ours = before + (datetime.now(UTC) - before) / 2
    store_skew = round((theirs - ours).total_seconds(), 1) + 0.0  # never -0.0
    newest = datetime.fromisoformat(found["newest"]) if found and found.get("newest") else None
    how = "measured by a mail"
    if skew is None:
        ahead = (newest - datetime.now(UTC)).total_seconds() if newest is not None else None
        skew, how = server_clock(found["transits"] if found else [], ahead)

    async def said() -> tuple[list[str], dict[str, Any]]:
        lines = [f"the store's clock differs by {store_skew:+.1f} s"]
        if found:
            differs = (
                f"the mail server's by about {skew:+.0f} s" if skew is not None else "the mail server's is not known"
            )
            lines.append(f"{differs} ({how})")
        return lines, {"store": store_skew, "server": skew, "server_by": how}

    await checks.step("clock", datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S %Z"), said)
    for name, seconds in (("store", store_skew), ("mail server", skew or 0.0)):
        if abs(seconds) > CLOCK:
            checks.warn("clock", f"this machine and the {name} disagree by {seconds:.0f} s: use NTP on both")


def server_clock(transits: list[float], ahead: float | None) -> tuple[float | None, str]:
    """What mail that is there tells of the mail server's clock, and how; None when it tells nothing.

    IMAP has no way to ask for the time. But what came in tomorrow came in by a clock that is ahead, by so much at
    least; and when most mail comes in before it was written, the clock is behind. How long mail takes, nobody knows: of
    a clock that is a little ahead it tells nothing.

    Args:
        transits: Seconds from Date to arrival of some messages, sorted.
        ahead: Seconds from now to the newest arrival.
    """
    if ahead is not None and ahead > 0:
        return ahead, "at least: mail came in at that time"
    if len(transits) < 3:
        return None, "there is too little mail to tell; --send measures it"
    middle = transits[len(transits) // 2]
    if middle < 0:
        return middle, f"so long before it was written came most of {len(transits)} messages"
    if middle <= PROMPT:
        return 0.0, f"{len(transits)} messages came within {PROMPT:.0f} s of their dates"
    return None, "mail takes long to come in, or that clock is ahead; --send measures it"


@app.command()
def sync(
    watch: Annotated[bool, typer.Option("--watch", help="Stay, and bring in what comes, until interrupted.")] = False,
    history: Annotated[
        int | None, typer.Option("--history", min=0, help="How many messages that are there already to file.")
    ] = None,
    since: Annotated[
        datetime | None, typer.Option("--since", formats=["%Y-%m-%d"], help="File what came from this day on.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="File all messages that are there.")] = False,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Bring new mail into the store, and send what is due.

    Nothing is marked as read. Of the mail that was there before the first sync the newest 50 messages are filed, as
    history: no agent is asked to answer them. `--history`, `--since` and `--all` file more, now or at any later time.

    With `--watch` it also tells the webhooks of the settings what happens.
    """
    if sum((history is not None, since is not None, everything)) > 1:
        raise typer.BadParameter("give one of --history, --since and --all")
    first: FirstRun | None = None
    if everything or history is not None or since is not None:
        day = since.replace(tzinfo=UTC) if since is not None else None
        first = FirstRun(history=None if everything else history if history is not None else 50, since=day,
                         reach_back=True)  # fmt: skip

    async def work() -> None:
        async with Inbox.from_env(store=store, first_run=first) as box:
            begun = await box.last_event()
            with _bar(as_json=as_json) as bar, _leaving_no_cycles():
                filed = await box.sync(progress=_shown(bar), ahead=ahead)
            if ahead is not None:
                ahead.close()
            new = [f for f in filed if f.new]
            hooks = Webhooks(box.store, settings(store=store).webhooks, account=box.account.key)
            if watch:
                await hooks.start()
            if as_json:
                print(json.dumps({"messages": len(filed), "new": len(new), "threads": sorted({f.thread for f in new})}))
            else:
                out.print(f"{count(len(new), 'new message')} in {count(len({f.thread for f in new}), 'thread')}")
                async for event in box.events(after=begun, wait=False):
                    if event.kind == "mailbox.first" and event.data is not None:
                        left = count(event.data["left"], "older message")
                        words = (
                            f"{left} of {event.data['mailbox']} left on the server; `agentmail sync --all` files all"
                        )
                        out.print(Text(plain(words), style="dim"), soft_wrap=True)
            if watch:
                async with TaskGroup() as group:
                    group.create_task(hooks.run())
                    group.create_task(follow(box, as_json=as_json))

    much = everything or since is not None or (history or 0) > FEW
    with preparing_ahead(wanted=much) as ahead:
        run(work)


@contextmanager
def _leaving_no_cycles() -> Iterator[None]:
    """Bringing mail in leaves none behind, and looking for them was a thirtieth of it."""
    usual = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(100_000)
    try:
        yield
    finally:
        gc.set_threshold(*usual)


def _bar(*, as_json: bool) -> Progress:
    """On a terminal; a pipe gets none."""
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=err, transient=True, disable=as_json or not err.is_terminal,
    )  # fmt: skip


def _shown(bar: Progress) -> Callable[[str, int, int], None]:
    tasks: dict[str, TaskID] = {}

    def progress(mailbox: str, done: int, of: int) -> None:
        if mailbox not in tasks:
            tasks[mailbox] = bar.add_task(mailbox, total=of)
        bar.update(tasks[mailbox], completed=done, total=of)

    return progress


async def follow(box: Inbox, *, as_json: bool) -> None:
    """Print what happens in the store, as it happens."""
    seen = await box.last_event()
    health = await box.health()
    if not as_json:
        read = ", ".join(m.name for m in health.mailboxes) or "nothing yet"
        state = "" if health.state == "ok" else f"; {health.state}"
        state += f": {health.error}" if health.error else ""
        out.print(Text(on_one_line(f"watching {health.account}: {read}{state}"), style="dim"), soft_wrap=True)
    async for event in box.watch(after=seen):
        if as_json:
            print(event.model_dump_json(), flush=True)
            continue
        out.print(Text(event_line(event)), soft_wrap=True)


def event_line(event: Event) -> str:
    """What happened, on one line: an error may hold what a stranger wrote, and must not look like another event."""
    about = event.data or {}
    words = (event.thread, event.message, *(about.get(name) for name in ("mailbox", "error", "reason")))
    where = on_one_line(" ".join(str(word) for word in words if word))
    return f"{event.at.astimezone():%H:%M:%S}  {event.kind}  {where}"
