"""HTML to visible text; what of a text is new and what is quoted; whether two parts say the same.

Everything here is total and linear: any string in, an answer out, whatever an outsider wrote.
"""

from __future__ import annotations

import re

from .characters import clean
from .html import Visible, visible
from .quotes import new_text_of

__all__ = ["Visible", "clean", "html_to_text", "new_text_of", "plain_differs", "visible"]


def html_to_text(html: str) -> str:
    """The text that a person would see of this HTML, with links, lists and tables kept readable.

    Text that is certainly hidden is left out; `visible(html)` also counts it and says what is doubtful.
    """
    return visible(html).text


_LOOKED_AT = 200_000
_LINK = re.compile(r"\b(?:https?://|www\.)\S+", re.IGNORECASE)
_WORD = re.compile(r"\w{3,}")


def plain_differs(text: str, html: str) -> bool:
    """Whether the plain text says something that the HTML does not show.

    Mail programs show the HTML of a `multipart/alternative`, so words that stand in its plain text alone are read by
    programs and not by people. Links and a few extra words (a footer, an image's name) are no difference.
    """
    said = set(_WORD.findall(_LINK.sub(" ", clean(text[:_LOOKED_AT])[0]).casefold()))
    if not said:
        return False
    shown = set(_WORD.findall(visible(html).text.casefold()))
    only_plain = said - shown
    return len(only_plain) >= 6 and len(only_plain) > 0.3 * len(said)
