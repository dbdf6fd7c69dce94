"""Memory of parsing: a child process for each parser, its peak (VmHWM) above what it had before, per MB of mail.

Run by `python -m bench parse`. VmHWM and not ru_maxrss, which a child begins with its parent's peak in.
"""

from __future__ import annotations

import base64
import gc
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from .corpus import generate

MAILBOX = 600
"""Mails of usual size, all results kept."""
LARGE = 20_000_000
"""Bytes of the one mail with a file attached."""


def measure(names: list[str]) -> dict[str, tuple[float, float]]:
    """`(mailbox, one large mail)` for each parser: MB of peak memory per MB of mail."""
    with tempfile.TemporaryDirectory() as directory:
        mailbox, large = Path(directory, "mailbox"), Path(directory, "large")
        mailbox.mkdir()
        for number, mail in enumerate(generate(MAILBOX, seed=11)):
            Path(mailbox, str(number)).write_bytes(mail.raw)
        large.mkdir()
        Path(large, "0").write_bytes(_large())
        return {name: (_child(name, mailbox), _child(name, large)) for name in names}


def _child(name: str, path: Path) -> float:
    done = subprocess.run(
        [sys.executable, "-m", "bench.parse_memory", name, str(path)], check=True, capture_output=True, text=True
    )
    return float(done.stdout)


def _large() -> bytes:
    rng = random.Random(3)
    text = "\n".join("Some words of a long text that somebody wrote." for _ in range(5_000)).encode()
    return (
        b"From: Ana <ana@example.org>\nTo: ben@example.org\nSubject: Files\nMessage-ID: <1@example.org>\n"
        b"Date: Fri, 20 Nov 2026 09:14:00 +0100\nMIME-Version: 1.0\n"
        b'Content-Type: multipart/mixed; boundary="mix"\n\n--mix\nContent-Type: text/plain\n\n' + text + b"\n--mix\n"
        b"Content-Type: application/zip; name=a.zip\nContent-Disposition: attachment; filename=a.zip\n"
        b"Content-Transfer-Encoding: base64\n\n" + base64.encodebytes(rng.randbytes(LARGE * 3 // 4)) + b"--mix--\n"
    )


def _peak() -> int:
    status = Path("/proc/self/status").read_text("ascii")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) * 1024


def main() -> None:
    from .parse import contenders

    parse = contenders()[sys.argv[1]]
    for mail in generate(20, seed=12):
        parse(mail.raw)  # what is imported and cached at first use is not the mail's
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", "ascii")  # forget the peak of before
    before = _peak()
    files = list(Path(sys.argv[2]).iterdir())
    kept = [parse(file.read_bytes()) for file in files]
    assert len(kept) == len(files)
    print((_peak() - before) / sum(file.stat().st_size for file in files))


if __name__ == "__main__":
    main()
