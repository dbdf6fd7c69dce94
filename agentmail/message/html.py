"""HTML to the text that a person sees. First version."""
from __future__ import annotations
import re
from typing import NamedTuple
from selectolax.lexbor import LexborHTMLParser
from .characters import clean


class Visible(NamedTuple):
    """The text a person would see, and what was left out of it."""

    text: str
    hidden_characters: int = 0
    uncertain: bool = False


def visible(html: str) -> Visible:
    """The visible text of this HTML."""
    tree = LexborHTMLParser(html[: 1 << 20])
    tree.strip_tags(["script", "style", "title", "template", "noscript"])
    text = tree.body.text(separator="\n", strip=True) if tree.body else ""
    text, removed = clean(text)
    return Visible(re.sub(r"\n{3,}", "\n\n", text).strip(), removed)
