"""The codes in the code and the codes in docs/reference/defects.md are the same."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
MARKS = ("defect", "_wrong(", "return Decoded(", "return found", "_cp1252(data),")
MODULES = (
    *("parse", "headers", "mime", "bodies", "addresses", "charsets", "transfer", "parameters", "words"),
    "identifiers",
)
_SINGLE = ("from", "subject", "date", "message-id", "to", "cc", "in-reply-to", "references", "reply-to")


def _used() -> set[str]:
    found = {f"repeated-{name}" for name in _SINGLE}
    for module in MODULES:
        source = (ROOT / "agentmail" / "message" / f"{module}.py").read_text("utf-8")
        for line in source.splitlines():
            if any(mark in line for mark in MARKS):
                found |= set(re.findall(r'"([a-z]+(?:-[a-z0-9]+)+|unreadable|uuencoded)"', line))
    return found - set(_SINGLE) - {"content-type", "thread-index", "thread-topic", "utf-8", "latin-1"}


def test_every_code_is_documented_and_every_documented_code_exists():
    page = (ROOT / "docs/reference/defects.md").read_text("utf-8")
    documented = set(re.findall(r"^\| `([a-z0-9-]+)` \|", page, re.MULTILINE))
    assert documented == _used()
