"""Parsing beside its peers: bytes to every field that an agent reads, one core, by CPU time.

    python -m bench parse [--messages 30] [--rounds 60] [--crlf] [--kinds] [--floor]

Each round gives every contender the same fresh slice of generated mail, and another of them is the first each time,
since the first one brings the mails into the processor's caches. Slices are small and rounds many because contenders
have to meet the same moments of a machine: in a round of 300 mails `email.policy.default` alone takes a second and a
half, and what else runs is something else afterwards. A slice is not smaller, since each begins with the processor's
caches full of another contender's code. Two ratios are printed. One is of the sums, what a mailbox costs; the other is
the median of the rounds, with the middle half of them: where the two are apart, the machine was disturbed.

`--crlf` gives the mails the line ends that they have on the wire. `--kinds` prints the ratio to the recipe by kinds of
mail. `--floor` measures what no parser in Python can leave out (see `parse_floor`). HTML becomes text, and attachments
become bytes, when somebody asks for it, so neither is measured. Peers are installed in `.cache/bench/parsers`, away
from the project.
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
from statistics import quantiles
from typing import Any

from agentmail.message.parse import parse

from . import parse_floor
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


def kind_of(raw: bytes) -> str:
    head, _, body = raw.replace(b"\r", b"").partition(b"\n\n")
    if b'"mix"' in head:
        return "with a file"
    if b"-Encoding:" in head or b"-Encoding:" in body[:200]:
        return "quoted-printable or base64 text"
    if b'"alt"' in head:
        return "text and HTML, ASCII"
    return "one part, ASCII"


def in_turn(rivals: dict[str, Callable[[bytes], Any]], mails: list[bytes], messages: int) -> dict[str, list[float]]:
    """Seconds of CPU of each contender in each round."""
    cost: dict[str, list[float]] = {name: [] for name in rivals}
    for number in range(len(mails) // messages):
        some = mails[number * messages : (number + 1) * messages]
        first = number % len(rivals)
        for name, one in [*rivals.items()][first:] + [*rivals.items()][:first]:
            started = time.process_time()
            for raw in some:
                one(raw)
            cost[name].append(time.process_time() - started)
    return cost


def ratios(theirs: list[float], mine: list[float]) -> tuple[float, float, float, float]:
    """Of the sums; and of the rounds the median, and where the middle half begins and ends."""
    pairs = [a / b for a, b in zip(theirs, mine, strict=True)]
    low, middle, high = quantiles(pairs, n=4) if len(pairs) > 1 else pairs * 3
    return sum(theirs) / sum(mine), middle, low, high


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--messages", type=int, default=30, help="of one round")
    arguments.add_argument("--rounds", type=int, default=60)
    arguments.add_argument("--crlf", action="store_true", help="the line ends of the wire")
    arguments.add_argument("--kinds", action="store_true", help="ours and the recipe by kinds of mail, and no others")
    arguments.add_argument("--floor", action="store_true", help="ours, the recipe and the floor, and no others")
    given = arguments.parse_args()
    if given.floor and given.crlf:
        arguments.error("the floor reads mails with LF and no others")
    end = b"\r\n" if given.crlf else b"\n"
    mails = [m.raw.replace(b"\n", end) for m in generate(given.messages * given.rounds, seed=7)]
    size = sum(map(len, mails)) / len(mails)
    print(f"{platform.python_implementation()} {platform.python_version()}, {platform.machine()}, "
          f"{len(mails)} mails of {size:,.0f} bytes on average, {given.messages} a round")  # fmt: skip
    rivals = {"agentmail": ours, "compat32 recipe": compat32} if given.kinds or given.floor else contenders()
    if given.floor:
        rivals["floor"] = parse_floor.floor
    for one in rivals.values():
        for raw in mails[:20]:
            one(raw)
    gc.collect()
    gc.freeze()
    if given.kinds:
        by_kind = {"all": [m.raw.replace(b"\n", end) for m in generate(len(mails), seed=8)]}
        for raw in mails:
            by_kind.setdefault(kind_of(raw), []).append(raw)
        few = max(1, given.messages // 3)  # there are not many of each kind
        print(f"{'':<33}{'mails':>6}{'µs a mail':>10}{'recipe':>8}{'of sums':>9}{'median':>8}")
        for kind, some in by_kind.items():
            cost = in_turn(rivals, some, few)
            number = len(cost["agentmail"]) * few
            of_sums, middle, _, _ = ratios(cost["compat32 recipe"], cost["agentmail"])
            spent, theirs = (sum(cost[name]) / number * 1e6 for name in rivals)
            print(f"{kind:<33}{number:>6}{spent:>10.0f}{theirs:>8.0f}{of_sums:>7.2f} ×{middle:>6.2f} ×")
        return
    cost = in_turn(rivals, mails, given.messages)
    memory = {} if given.floor else measure(list(rivals))
    print(f"{'':<36}{'agentmail is':>15}" + f"{'':<16}{'peak MB a MB of mail':>24}" * bool(memory))
    titles = f"{'parser':<26}{'µs a mail':>10}{'of sums':>9}{'median':>9}{'middle half':>13}"
    print(titles + f"{'kept':>12}{'one of 20 MB':>14}" * bool(memory))
    for name, spent in cost.items():
        of_sums, middle, low, high = ratios(spent, cost["agentmail"])
        mean = sum(spent) / len(mails) * 1e6
        line = f"{name:<26}{mean:>10.0f}{of_sums:>7.2f} ×{middle:>7.2f} ×{low:>8.2f} to {high:.2f}"
        print(line + ("{:>12.2f}{:>14.2f}".format(*memory[name]) if memory else ""))
    if given.floor:
        _floor(mails)


def _floor(mails: list[bytes]) -> None:
    """The floor by steps, on mails that it has not seen."""
    for raw in mails[:200]:
        assert parse_floor.floor(raw) == parse(raw), raw
    spent = [0.0] * len(parse_floor.STEPS)
    fresh = [m.raw for m in generate(len(mails), seed=8)]
    for start in range(0, len(fresh), 30):
        parse_floor.steps(fresh[start : start + 30], time.process_time, spent)
    print("the floor by steps, each repeated for 30 mails that it has not seen")
    for name, one in zip(parse_floor.STEPS, spent, strict=True):
        print(f"  {name:<44}{one / len(fresh) * 1e6:>6.1f} µs")


if __name__ == "__main__":
    main()
