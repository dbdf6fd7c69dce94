"""Who finds what is new in a reply: ours beside four libraries, on our own fixtures and on any set you name.

    python -m bench.quotes [expected.jsonl]

The libraries are installed into .cache/bench-quotes, which nothing else uses. A line of the optional file is an object
with `input` (a path beside the file, a plain-text body) and `expected_trimmed` (what its author says is new); lines
without that key are left out. Two texts are equal when they are equal but for white space. The hostile inputs run
in one process each, with 5 seconds of CPU time.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".cache" / "bench-quotes"
PACKAGES = ("mail-parser-reply==1.36", "email-reply-parser==0.5.12", "quotequail==0.5.4", "talon==1.4.4")
CPU_SECONDS = 5

HOSTILE: dict[str, Callable[[], str]] = {
    "On … without wrote, 20,000 lines": lambda: "On and on it goes <a@b> 10:00\n" * 20_000,
    "On … wrote in one line of 200 kB": lambda: "On " + "x " * 100_000 + "wrote:\n",
    "200,000 quoted lines": lambda: "yes\n" + "> no\n" * 200_000,
    "quote depth 20,000": lambda: "yes\n" + ">" * 20_000 + " no\n",
    "1 MB of spaces": lambda: "yes" + " " * 1_000_000 + "x",
    "50,000 signatures": lambda: "yes\n" + "-- \nx\n" * 50_000,
    "20,000 header lines": lambda: "From: a\nSent: b\n" * 10_000,
    "underscores": lambda: "_" * 200_000 + "\n" + "-" * 200_000,
}


def worker(name: str) -> None:
    """Read one JSON task a line, write one JSON string a line."""
    find = _finder(name)
    for line in sys.stdin:
        task = json.loads(line)
        try:
            found = find(task["text"], task["html"])
        except RecursionError as error:
            found = {"text": f"!{type(error).__name__}"}
        except Exception as error:
            found = {"text": f"!{type(error).__name__}: {error}"[:200]}
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()


def _finder(name: str) -> Callable[[str, str | None], dict[str, str | None]]:
    """A library as a function of a text and perhaps HTML; HTML that comes back is made text by the parent."""
    if name == "ours":
        from agentmail.message.text import new_text_of

        return lambda text, html: {"text": new_text_of(text, html)}
    if name == "mail-parser-reply":
        from mailparser_reply import EmailReplyParser
        from mailparser_reply.constants import MAIL_LANGUAGES

        parser = EmailReplyParser(languages=[language for language in MAIL_LANGUAGES if language != "david"])

        def parsed(text: str, html: str | None) -> dict[str, str | None]:
            replies = parser.read(text=text).replies
            return {"text": replies[0].body if replies else ""}  # without headers and signature

        return parsed
    if name == "email-reply-parser":
        from email_reply_parser import EmailReplyParser as Zapier

        return lambda text, html: {"text": Zapier.parse_reply(text)}
    if name == "quotequail":
        import quotequail

        def quail(text: str, html: str | None) -> dict[str, str | None]:
            if html:
                parts = quotequail.unwrap_html(html)
                if not parts:
                    return {"text": text}
                return {"html": f"{parts.get('html_top') or ''}{parts.get('html_bottom') or ''}"}
            parts = quotequail.unwrap(text)
            if not parts:
                return {"text": text}
            return {"text": "\n".join(filter(None, (parts.get("text_top"), parts.get("text_bottom"))))}

        return quail
    from talon import quotations
    from talon.signature.bruteforce import extract_signature

    def found(text: str, html: str | None) -> dict[str, str | None]:
        if html:
            return {"html": quotations.extract_from_html(html)}
        return {"text": extract_signature(quotations.extract_from_plain(text))[0]}

    return found


def _python(name: str) -> list[str]:
    python = sys.executable if name == "ours" else str(VENV / "bin" / "python")
    return [python, str(Path(__file__).resolve()), "--worker", name]


def _run(name: str, tasks: list[dict[str, str | None]]) -> tuple[list[dict[str, str | None]], float]:
    sent = "".join(json.dumps(task) + "\n" for task in tasks)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(_python(name), input=sent, capture_output=True, text=True, check=False, cwd=ROOT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    answers += [{"text": "!died"}] * (len(tasks) - len(answers))
    return answers, after.ru_utime - before.ru_utime


def _hostile(name: str, text: str) -> str:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))

    started = time.monotonic()
    done = subprocess.run(
        _python(name),
        input=json.dumps({"text": text, "html": None}) + "\n",
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        preexec_fn=limit,
    )
    if done.returncode:
        return f"killed after {CPU_SECONDS} s" if time.monotonic() - started >= CPU_SECONDS else "died"
    answer = json.loads(done.stdout)
    return "raised " + answer["text"][1:].split(":")[0] if (answer.get("text") or "").startswith("!") else "ok"


def _squash(text: str) -> str:
    return " ".join(text.split())


def _unquoted(text: str) -> str:
    return _squash("\n".join(line for line in text.split("\n") if not line.startswith(">")))


def _sets(path: str | None) -> dict[str, list[tuple[dict[str, str | None], str]]]:
    """Name of a set -> (task, expected text)."""
    from agentmail.message.text import html_to_text
    from tests.unit.message.replies import HTML, PLAIN

    sets: dict[str, list[tuple[dict[str, str | None], str]]] = {
        "our plain text": [({"text": reply.text, "html": None}, reply.new) for reply in PLAIN],
        "our HTML": [({"text": html_to_text(reply.html or ""), "html": reply.html}, reply.new) for reply in HTML],
    }
    if path:
        folder = Path(path).resolve().parent
        rows = [json.loads(line) for line in Path(path).read_text("utf-8").splitlines()]
        sets[Path(path).parent.name or path] = [
            ({"text": (folder / row["input"]).read_text("utf-8", "replace"), "html": None}, row["expected_trimmed"])
            for row in rows
            if "expected_trimmed" in row
        ]
    return sets


def main(path: str | None = None) -> None:
    from agentmail.message.text import html_to_text

    if not (VENV / "bin" / "python").exists():
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
        subprocess.run([str(VENV / "bin" / "pip"), "install", "--quiet", *PACKAGES], check=True)
    names = ["ours", *(package.partition("==")[0] for package in PACKAGES)]
    print("right (the same but for white space; in brackets: quoted lines left out on both sides), CPU seconds\n")
    for title, cases in _sets(path).items():
        for name in names:
            answers, seconds = _run(name, [task for task, _ in cases])
            found = [
                html_to_text(answer["html"] or "") if "html" in answer else answer.get("text") or ""
                for answer in answers
            ]
            right = sum(_squash(text) == _squash(want) for text, (_, want) in zip(found, cases, strict=True))
            loose = sum(_unquoted(text) == _unquoted(want) for text, (_, want) in zip(found, cases, strict=True))
            empty = sum(not text.strip() and bool(task["text"]) for text, (task, _) in zip(found, cases, strict=True))
            print(f"{title:18} {name:20} {right:4}/{len(cases)} [{loose}]  empty {empty:3}  {seconds:6.2f} s")
        print()
    print("hostile\n")
    for title, make in HOSTILE.items():
        print(f"{title:34}", *(f"{name}: {_hostile(name, make())}; " for name in names))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(sys.argv[2])
    else:
        main(sys.argv[1] if len(sys.argv) > 1 else None)
