"""Parse one large mail under limits: `python -m tests.corpus NAME`. Ends with an error when a limit is broken."""

import resource
import sys
import time
from pathlib import Path

from agentmail.message.parse import parse
from tests.corpus.large import CASES


def peak() -> int:
    """The peak of this program in KiB; ru_maxrss would be that of its parent, when that was bigger."""
    return int(Path("/proc/self/status").read_text("ascii").partition("VmHWM:")[2].split()[0])


def main(name: str) -> None:
    raw = CASES[name]
    limit = int(time.process_time()) + 20
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
    before = peak()
    start = time.process_time()
    message = parse(raw)
    spent = time.process_time() - start
    grown = (peak() - before) * 1024
    assert "unreadable" not in message.defects, name
    assert spent <= 1, f"{name}: {spent:.2f} s CPU"
    assert grown <= 64_000_000 + 6 * len(raw), f"{name}: {grown:,} bytes for {len(raw):,}"
    message.model_dump_json(exclude={"new_text"}).encode("utf-8")


for one in sys.argv[1:]:
    main(one)
