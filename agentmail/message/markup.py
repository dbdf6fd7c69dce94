"""A look at HTML before the parser sees it: what would take a parser too long is taken out or refused.

lexbor, like every tree builder, needs quadratic time or worse for a nesting of 100,000, for 100,000 attributes, and
for unclosed formatting elements that every paragraph opens again. All of it is counted here, in linear time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from typing import NamedTuple

MAX_SIZE = 1 << 20
"""Characters of HTML that are read."""
MAX_DEPTH = 400
MAX_TAG = 8_192
"""Characters of one tag. Longer ones lose their attributes; inlined images are emptied before that."""
_MAX_NODES = 250_000
"""What the parser may build, as far as it can be told beforehand."""

_DATA_URI = re.compile(r"data:[a-zA-Z0-9.+/-]{0,100}[;,][A-Za-z0-9+/=;,%\s-]{500,}+")
_MARK = re.compile(r"<(?:!--|[!?]|/?[a-zA-Z][^\s/>]*)")
_QUOTE_OR_END = re.compile(r"""["'>]""")
_RAW = frozenset(("style", "title", "textarea", "xmp", "iframe", "noembed", "noframes"))
_OTHER_GRAMMAR = re.compile(
    r"<(/?)(svg|math|select|script|frameset|plaintext)(?=[\s/>])([^<>]{0,2000}/>)?", re.IGNORECASE
)
"""Elements inside of which the parser reads by other rules than this scan. They are renamed, so that both see the
same thing; none of them holds text that a mail client shows."""
_CLOSES_ITSELF = frozenset(
    (
        *("p", "li", "dt", "dd", "tr", "td", "th", "thead", "tbody", "tfoot", "option", "optgroup", "colgroup"),
        *("rp", "rt", "rb", "rtc", "html", "head", "body", "caption"),
        *("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track"),
        *("wbr", "image", "frame", "keygen", "basefont", "bgsound"),
    )
)
_FORMATTING = frozenset(
    ("a", "b", "big", "code", "em", "font", "i", "nobr", "s", "small", "strike", "strong", "tt", "u")
)


class Tag(NamedTuple):
    """One tag of the source; `start` and `end` are where it stands."""

    name: str
    closes: bool
    start: int
    end: int


class Source(NamedTuple):
    """HTML that a parser can be given, or not."""

    html: str
    cut: bool
    """True when something was left out that may have mattered."""
    safe: bool
    """False when a parser would take too long or too much memory."""


def tags(html: str) -> Iterator[Tag]:
    """The tags in order, comments and raw text (script, style …) skipped; linear, whatever is unclosed."""
    position = 0
    while (mark := _MARK.search(html, position)) is not None:
        start, opening = mark.start(), mark[0]
        if opening == "<!--":
            position = _comment_end(html, start)
            continue
        if opening in ("<!", "<?"):
            position = html.find(">", start) + 1 or len(html)
            continue
        closes = opening[1] == "/"
        name = opening[2 if closes else 1 :].lower()
        end = _tag_end(html, mark.end())
        yield Tag(name, closes, start, end)
        position = end
        if name in _RAW and not closes:
            closing = re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE).search(html, end)
            if closing is None:
                return
            position = closing.start()


def _comment_end(html: str, start: int) -> int:
    if html.startswith((">", "->"), start + 4):  # <!--> and <!---> are whole comments (HTML 13.2.5.43)
        return html.index(">", start) + 1
    plain = html.find("-->", start + 4)
    banged = html.find("--!>", start + 4, plain if plain >= 0 else len(html))
    if banged >= 0:
        return banged + 4
    return plain + 3 if plain >= 0 else len(html)


def _tag_end(html: str, position: int) -> int:
    """Just behind the ">" of a tag; a ">" inside quotes does not count. The end of the text when there is none."""
    while (found := _QUOTE_OR_END.search(html, position)) is not None:
        if found[0] == ">":
            return found.end()
        if html[max(0, found.start() - 40) : found.start()].rstrip().endswith("="):
            closing = html.find(found[0], found.end())
            if closing < 0:
                return len(html)
            position = closing + 1
        else:
            position = found.end()  # a stray quote in an attribute name
    return len(html)


def prepare(html: str) -> Source:
    """HTML within the limits, or the verdict that it cannot be brought within them."""
    cut = len(html) > MAX_SIZE * 4
    html = _DATA_URI.sub("data:,", html[: MAX_SIZE * 4])
    if len(html) > MAX_SIZE:
        html, cut = html[:MAX_SIZE], True
    html = html.replace("\x00", "")
    if _OTHER_GRAMMAR.search(html):
        html = _OTHER_GRAMMAR.sub(_renamed, _without_scripts(html))
    out: list[str] = []
    opened: dict[str, int] = {}
    position = depth = formatting = nodes = 0
    for tag in tags(html):
        name = tag.name
        if tag.end - tag.start > MAX_TAG:
            out += (html[position : tag.start], f"<{'/' if tag.closes else ''}{name[:100]}>")
            position, cut = tag.end, True
        if name in _CLOSES_ITSELF:
            nodes += 2 + formatting
            if nodes > _MAX_NODES:
                return Source(html, True, False)
            continue
        # A closing tag counts only against an opening one of its own name: any other is ignored by the parser.
        change = 1 if not tag.closes else -1 if opened.get(name) else 0
        opened[name] = opened.get(name, 0) + change
        depth += change
        if name in _FORMATTING:
            formatting += change
            nodes += 2
        else:
            nodes += 2 + (0 if tag.closes else formatting)
        if depth > MAX_DEPTH or nodes > _MAX_NODES:
            return Source(html, True, False)
    return Source("".join((*out, html[position:])), cut, True)


def _renamed(match: re.Match[str]) -> str:
    if match[3]:
        return ""  # <svg … />
    return f"<{match[1]}x-{match[2].lower()}"


def _without_scripts(html: str) -> str:
    """Without <script>…</script>: what stands inside is not HTML."""
    out: list[str] = []
    position = 0
    opening = re.compile(r"<script(?=[\s/>])", re.IGNORECASE)
    closing = re.compile(r"</script[^>]{0,100}>", re.IGNORECASE)
    while (start := opening.search(html, position)) is not None:
        end = closing.search(html, start.end())
        if end is None:
            break
        out.append(html[position : start.start()])
        position = end.end()
    out.append(html[position:])
    return "".join(out)


_BREAKS = frozenset(
    (
        *("p", "div", "br", "tr", "li", "ul", "ol", "table", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote", "pre"),
        *("hr", "section", "article", "header", "footer", "td", "dt", "dd", "title"),
    )
)
_HIDES = re.compile(
    r"""\shidden(?=[\s=>/])|display\s*:\s*none|visibility\s*:\s*hidden|font-size\s*:\s*0|opacity\s*:\s*0(?!\.?\d*[1-9])|"""
    r"""(?:left|top|text-indent)\s*:\s*-\d{3}""",
    re.IGNORECASE,
)


UNREAD = frozenset(
    (
        *("head", "title", "style", "script", "template", "noscript", "noframes", "noembed", "iframe", "frameset"),
        *("svg", "math", "x-svg", "x-math", "x-script", "x-select", "x-frameset", "select", "datalist", "option"),
        *("meter", "progress"),
        *("object", "applet", "embed", "audio", "video", "canvas", "map", "picture", "rp", "param", "xml", "o:xml"),
    )
)
"""Elements whose text no mail client shows, and those that show it only when something else cannot be shown."""


def without_tags(html: str) -> tuple[str, int]:
    """`(text, hidden characters)` of HTML that no parser can be given: plain, in linear time.

    Hiding by style attributes is seen here too, hiding by rules is not.
    """
    out: list[str] = []
    position = hidden = nested = 0
    skipping = ""
    for tag in tags(html):
        between = html[position : tag.start]
        position = tag.end
        if skipping:
            hidden += len(between.strip())
            if tag.name == skipping:
                nested += -1 if tag.closes else 1
                if nested == 0:
                    skipping = ""
            continue
        out.append(between)
        if tag.name in _BREAKS:
            out.append("\n")
        if not tag.closes and (tag.name in _HIDEABLE or tag.name not in _CLOSES_ITSELF):
            style_end = min(tag.end, tag.start + MAX_TAG)
            if tag.name in UNREAD or _HIDES.search(html, tag.start, style_end):
                skipping, nested = tag.name, 1
    if skipping:
        hidden += len(html[position:].strip())
    else:
        out.append(html[position:])
    return unescape(_NOT_TEXT.sub("", "".join(out))), hidden


_HIDEABLE = frozenset(("p", "li", "td", "tr", "th"))
_NOT_TEXT = re.compile(r"<!--(?:[^-]|-(?!->))*+(?:-->|$)|<[!?][^<>]*+>?")
