"""The program that `bench.imap fetch` measures: it fetches and parses, and imports what that needs.

    python -m bench.fetched HOST PORT USER [raw | files]

With `raw` it fetches and throws away: what the parsing does not cost. With `files` it writes each message into `cur/`.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from itertools import zip_longest
from pathlib import Path

from agentmail.imap import FACTS, WHOLE, Fetched, ImapConnection, uid_sets
from agentmail.imap.batches import batches
from agentmail.imap.pipeline import Asked, Each
from agentmail.message.models import Message
from agentmail.message.parse import parse
from agentmail.settings import Account


def peak() -> float:
    """Megabytes. Of this program: ru_maxrss would be that of the process which started it, when that was bigger."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


async def fetch_and_parse(account: Account, *, parsed: bool, files: bool) -> dict[str, float]:
    """As a first sync does it: each message is parsed while the next one comes."""
    began, cpu, number = time.perf_counter(), time.process_time(), 0
    connection = ImapConnection(account)
    await connection.connect()
    await connection.examine("INBOX")
    messages: dict[int, Message] = {}

    def each(one: Fetched) -> None:
        if one.body is not None:
            messages[one.uid] = parse(one.body, received_at=one.received_at)

    def write(one: Fetched) -> None:
        if one.body is not None:
            Path("cur", str(one.uid)).write_bytes(one.body)

    work = write if files else each if parsed else None
    async for found in incoming(connection, await connection.search_uids(1) or [], work):
        number += len(found)
        assert not parsed or all(messages.pop(uid).text is not None for uid in found)
    took, used = time.perf_counter() - began, time.process_time() - cpu
    await connection.close()
    return {"messages": number, "seconds": took, "cpu": used, "rss": peak()}


async def incoming(
    connection: ImapConnection, uids: Sequence[int], each: Each | None = None
) -> AsyncGenerator[dict[int, Fetched]]:
    """As `MailboxPass` does it: sizes, batches by bytes, each asked for before the one in front of it is here."""
    pieces = list(uid_sets(uids))
    for n, piece in enumerate(pieces):
        facts = await connection.fetch(piece, FACTS)
        planned = [tuple(f.uid for f in batch) for batch in batches([facts[u] for u in piece])]
        then = [Asked(batch, WHOLE) for batch in planned[1:]]
        then += [Asked(tuple(p), FACTS) for p in pieces[n + 1 : n + 2]]
        for batch, after in zip_longest(planned, then):
            if batch is not None:
                yield await connection.fetch(batch, WHOLE, expected=2**22, then=after, each=each)


def main() -> None:
    host, port, user, *how = sys.argv[1:]
    account = Account(address=user, password="secret", imap_host=host, imap_port=int(port), timeout=60.0,
                      imap_security="plain", smtp_host=host, smtp_port=9, smtp_security="plain")  # fmt: skip
    gc.freeze()
    gc.set_threshold(100_000)  # as `agentmail sync` has it while mail comes in
    print(json.dumps(asyncio.run(fetch_and_parse(account, parsed=not how, files="files" in how))))


if __name__ == "__main__":
    main()
