"""Parsing beside its peers: bytes to every field that an agent reads, one core, by CPU time.

    python -m bench parse [--messages 600] [--rounds 5]

Each round gives every contender the same fresh slice of generated mail, another of them first each time, since the
first one brings the mails into the processor's caches; ratios are pairwise, round by round, and the median is printed.
`--crlf` gives the mails the line ends that they have on the wire. HTML becomes text, and attachments become bytes, when
somebody asks for it, so neither is measured. Peers are installed in `.cache/bench/parsers`, away from the project.
"""

from __future__ import annotations

import argparse
import email
import email.header
import email.policy
import email.utils
import gc
import importlib
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from agentmail.message.parse import parse

from .corpus import generate
from .parse_memory import measure

PEERS = Path(__file__).parents[1] / ".cache" / "bench" / "parsers"
PACKAGES = ["imap-tools==1.16.0", "mail-parser==4.8.0", "fast-mail-parser==0.10.0"]
IDS = ("message-id", "in-reply-to", "references")


def ours(raw: bytes) -> Any:
    return parse(raw)


def compat32(raw: bytes) -> Any:
    """The usual recipe: message_from_bytes, headers decoded, addresses, date, bodies, attachments."""
    message = email.message_from_bytes(raw)
    out: dict[str, Any] = {"headers": [(k, _decoded(str(v))) for k, v in message.items()]}
    for name in ("from", "to", "cc", "reply-to"):
        found = email.utils.getaddresses([str(v) for v in message.get_all(name, [])])
        out[name] = [(_decoded(n), a) for n, a in found]
    out["subject"] = _decoded(str(message.get("subject", "")))
    for name in IDS:
        out[name] = str(message.get(name, "")).split()
    date = message.get("date")
    out["date"] = email.utils.parsedate_to_datetime(str(date)) if date else None
    out["text"], out["html"], out["attachments"] = "", None, []
    for part in message.walk():
        if part.is_multipart():
            continue
        content: Any = part.get_payload(decode=True) or b""
        kind = part.get_content_type()
        if part.get_filename() or kind not in {"text/plain", "text/html"}:
            out["attachments"].append((part.get_filename(), kind, len(content)))
        else:
            text = content.decode(part.get_content_charset() or "utf-8", "replace")
            if kind == "text/plain":
                out["text"] = out["text"] or text
            else:
                out["html"] = out["html"] or text
    return out


def _decoded(value: str) -> str:
    return str(email.header.make_header(email.header.decode_header(value))) if "=?" in value else value


def default(raw: bytes) -> Any:
    """email.policy.default, as its documentation shows it."""
    message = email.message_from_bytes(raw, policy=email.policy.default)
    out: dict[str, Any] = {"headers": [(k, str(v)) for k, v in message.items()]}
    for name in ("from", "to", "cc", "reply-to"):
        header = message.get(name)
        out[name] = [(a.display_name, a.addr_spec) for a in header.addresses] if header else []
    out["subject"] = str(message.get("subject", ""))
    for name in IDS:
        out[name] = str(message.get(name, "")).split()
    date = message.get("date")
    out["date"] = date.datetime if date else None
    for kind in ("plain", "html"):
        part = message.get_body((kind,))
        out[kind] = part.get_content() if part is not None else None
    out["attachments"] = [
        (p.get_filename(), p.get_content_type(), len(p.get_payload(decode=True) or b""))
        for p in message.iter_attachments()
    ]
    return out


def peers() -> dict[str, Callable[[bytes], Any]]:
    """Parsers of the package index, installed once."""
    if not PEERS.exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", str(PEERS)]
        subprocess.run([*pip, *PACKAGES], check=True)
    sys.path.append(str(PEERS))
    found: dict[str, Callable[[bytes], Any]] = {}
    imap_tools = importlib.import_module("imap_tools")
    mailparser = importlib.import_module("mailparser")
    fast = importlib.import_module("fast_mail_parser")

    def with_imap_tools(raw: bytes) -> Any:
        m = imap_tools.MailMessage.from_bytes(raw)
        attachments = [(a.filename, a.content_type, a.size) for a in m.attachments]
        people = (m.from_values, m.to_values, m.cc_values, m.reply_to_values)
        return (*people, m.subject, m.date, m.text, m.html, m.headers, attachments)

    def with_mail_parser(raw: bytes) -> Any:
        m = mailparser.parse_from_bytes(raw)
        return (m.from_, m.to, m.cc, m.reply_to, m.subject, m.date, m.text_plain, m.text_html, m.headers, m.attachments,
                m.message_id)  # fmt: skip

    def with_fast_mail_parser(raw: bytes) -> Any:
        m = fast.parse_email(raw)
        return (m.subject, m.date, m.text_plain, m.text_html, dict(m.headers), list(m.attachments))

    found["imap_tools"] = with_imap_tools
    found["mail-parser"] = with_mail_parser
    found["fast-mail-parser (Rust)"] = with_fast_mail_parser
    return found


def contenders() -> dict[str, Callable[[bytes], Any]]:
    return {"agentmail": ours, "compat32 recipe": compat32, "policy.default": default, **peers()}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--messages", type=int, default=600, help="of one round")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--crlf", action="store_true")
    given = arguments.parse_args()
    rivals = contenders()
    mails = [m.raw for m in generate(given.messages * given.rounds, seed=7)]
    if given.crlf:
        mails = [raw.replace(b"\n", b"\r\n") for raw in mails]
    size = sum(map(len, mails)) / len(mails)
    print(f"{platform.python_implementation()} {platform.python_version()}, {platform.machine()}, "
          f"{len(mails)} mails of {size:,.0f} bytes on average")  # fmt: skip
    for one in rivals.values():
        for raw in mails[:20]:
            one(raw)
    gc.collect()
    gc.freeze()
    cost: dict[str, list[float]] = {name: [] for name in rivals}
    for number in range(given.rounds):
        some = mails[number * given.messages : (number + 1) * given.messages]
        first = number % len(rivals)
        for name, one in [*rivals.items()][first:] + [*rivals.items()][:first]:
            started = time.process_time()
            for raw in some:
                one(raw)
            cost[name].append((time.process_time() - started) / len(some))
    memory = measure(list(rivals))
    print(f"{'':<52}{'peak MB a MB of mail':>24}")
    print(f"{'parser':<26}{'µs a mail':>10}{'agentmail is':>16}{'kept':>12}{'one of 20 MB':>14}")
    for name, spent in cost.items():
        ratio = median(theirs / mine for theirs, mine in zip(spent, cost["agentmail"], strict=True))
        kept, large = memory[name]
        print(f"{name:<26}{median(spent) * 1e6:>10.0f}{ratio:>14.2f} ×{kept:>12.2f}{large:>14.2f}")


if __name__ == "__main__":
    main()
