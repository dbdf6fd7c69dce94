"""What of a text is new and what is quoted. First version."""
from __future__ import annotations


def new_text_of(text: str, html: str | None = None) -> str:
    """What this person newly wrote, without quoted history and signature; never empty when `text` is not."""
    lines = [line for line in text.split("\n") if not line.startswith(">")]
    return "\n".join(lines).strip() or text
