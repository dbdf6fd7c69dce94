"""HTML to visible text; what of a text is new and what is quoted.

Everything here is total and linear: any string in, a string out, whatever an outsider wrote.
"""

from __future__ import annotations

from .html import Visible, visible
from .quotes import new_text_of

__all__ = ["Visible", "html_to_text", "new_text_of", "visible"]


def html_to_text(html: str) -> str:
    """The text that a person would see of this HTML, with links, lists and tables kept readable.

    Text that is certainly hidden is left out; `visible(html)` also counts it and says what is doubtful.
    """
    return visible(html).text
