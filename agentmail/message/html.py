"""HTML to the text that a person sees: paragraphs, lists, tables and link targets kept, hidden text left out.

The tree is walked, never recursed into, after `markup.prepare` has brought it within limits; `visibility` says what
can be seen. What is certainly hidden is left out and counted, never returned; what is doubtful stays and is flagged.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

from selectolax.lexbor import LexborHTMLParser, LexborNode

from . import markup, quoteblocks
from .characters import clean
from .stylesheet import Element, Stylesheet, declarations
from .visibility import Sight, look

Kind = Literal["new", "quote", "signature"]


class Visible(NamedTuple):
    """The text a person would see, and what was left out of it."""

    text: str
    hidden_characters: int = 0
    """Characters of text that cannot be seen: display:none, no size, off the screen, white on white."""
    invisible_characters: int = 0
    """Zero-width, bidirectional, tag and control characters that were taken out."""
    uncertain: bool = False
    """True when some of `text` may be hidden from a person after all, or the HTML was too large to read whole."""


class Line(NamedTuple):
    """One line of visible text."""

    text: str
    depth: int = 0
    """How many block quotes it stands in."""
    kind: Kind = "new"
    """What the marks of the sender's mail program say about it."""


class Reading(NamedTuple):
    """A document line by line, for `visible` and for the search of what is new."""

    lines: list[Line]
    hidden_characters: int
    invisible_characters: int
    uncertain: bool


def visible(html: str) -> Visible:
    """The visible text of this HTML. Never raises; linear; at most 1 MB of HTML is read."""
    reading = read(html)
    return Visible(
        "\n".join(shown(reading.lines)), reading.hidden_characters, reading.invisible_characters, reading.uncertain
    )


def shown(lines: list[Line]) -> list[str]:
    """Lines as text: quotes with "> " in front, never two blank lines in a row, none at either end."""
    out: list[str] = []
    for line in lines:
        text = "> " * min(line.depth, 20) + line.text if line.depth else line.text
        if line.text or (out and out[-1].strip("> ")):
            out.append(text.rstrip())
    while out and not out[-1].strip("> "):
        out.pop()
    return out


def read(html: str) -> Reading:
    """The visible lines of this HTML and what the marks in it say about them."""
    source = markup.prepare(html)
    if not source.safe:
        return _plain(source.html)
    try:
        tree = LexborHTMLParser(source.html)
    except Exception:  # noqa: BLE001  selectolax raises bare exceptions when lexbor gives up
        return _plain(source.html)
    walk = _Walk(tree)
    walk.run(tree.root)
    return Reading(walk.page.lines, walk.hidden, walk.invisible, walk.uncertain or walk.sheet.doubtful or source.cut)


def _plain(html: str) -> Reading:
    text, hidden = markup.without_tags(html)
    text, invisible = clean(text)
    return Reading([Line(" ".join(line.split())) for line in text.split("\n")], hidden, invisible, True)


# ---------------------------------------------------------------------------------------------------------------------

_BLOCKS = frozenset(
    (
        *("div", "section", "article", "header", "footer", "main", "aside", "nav", "address", "center", "form"),
        *("li", "dt", "dd", "tr", "tbody", "thead", "tfoot", "caption", "summary", "legend", "figcaption"),
        *("body", "option", "fieldset", "hgroup", "dir", "menu", "optgroup"),
    )
)
_SPACED = frozenset(
    (
        *("p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "dl", "table", "blockquote", "pre", "figure"),
        *("details", "dialog", "xmp", "listing"),
    )
)
_SILENT = frozenset(("head", "title", "style", "script", "template", "x-script", "xml", "o:xml"))
"""Never text, and not worth counting."""
_SPACES = re.compile(r"[ \t\n\r\f]+")
_SCHEMES = ("http://", "https://", "mailto:", "tel:", "ftp://")
_MAX_LINK = 2_000


class _Frame:
    """An element that is open."""

    __slots__ = ("cells", "counter", "depth", "element", "kind", "lines", "link", "mark", "sight", "tag")

    def __init__(self, tag: str, element: Element, sight: Sight, kind: Kind, depth: int) -> None:
        self.tag = tag
        self.element = element
        self.sight = sight
        self.kind = kind
        self.depth = depth
        self.link = ""
        self.mark = (0, 0)
        """Where the page stood when a link began."""
        self.counter = 0
        self.cells: list[list[Line]] = []
        self.lines: list[Line] = []
        """What stood on the page before this table row."""


class _Page:
    """The lines written so far, and the one being written."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.parts: list[str] = []
        self.prefix = ""
        self._depth = 0
        self._kind: Kind = "new"

    def write(self, text: str, depth: int, kind: Kind) -> None:
        if not self.parts:
            self._depth, self._kind = depth, kind
            if self.prefix:
                self.parts.append(self.prefix)
                self.prefix = ""
        self.parts.append(text)

    def end_line(self) -> None:
        if self.parts:
            text = "".join(self.parts).replace("\xa0", " ").rstrip()
            self.lines.append(Line(text, self._depth, self._kind))
            self.parts = []

    def gap(self, depth: int, kind: Kind) -> None:
        self.end_line()
        if self.lines and self.lines[-1].text:
            self.lines.append(Line("", min(depth, self.lines[-1].depth), kind))
        elif self.lines and self.lines[-1].depth > depth:
            self.lines[-1] = self.lines[-1]._replace(depth=depth)


class _Walk:
    def __init__(self, tree: LexborHTMLParser) -> None:
        self.page = _Page()
        self.hidden = self.invisible = 0
        self.uncertain = False
        self.rest_is_history = False
        self.sheet = Stylesheet()
        self.elements: list[Element] = []
        self._sights: dict[tuple[object, ...], Sight] = {}
        """Looks that were worked out before: the cells of a table look alike."""
        for style in tree.css("style"):
            self.sheet.feed(style.text(deep=True) or "")

    def run(self, root: LexborNode | None) -> None:
        """Every node in document order, with a stack of our own: no depth of nesting can exhaust Python's."""
        node = root
        bottom = _Frame("", Element("", "", frozenset(), {}), Sight(), "new", 0)
        if self.sheet.repaints:
            bottom.sight = bottom.sight._replace(background=None)
        stack = [bottom]
        while node is not None:
            entered = False
            if node.is_text_node:
                self._text(node.text_content or "", stack[-1])
            elif node.is_element_node:
                frame = self._enter(node, stack[-1])
                if frame is not None:
                    child = node.child
                    if child is not None:
                        stack.append(frame)
                        self.elements.append(frame.element)
                        node, entered = child, True
                    else:
                        self._leave(frame, stack[-1])
            while not entered and node is not None:
                following = node.next
                if following is not None:
                    node = following
                    break
                node = node.parent
                if len(stack) == 1 or node is None:
                    node = None
                    break
                self.elements.pop()
                self._leave(stack.pop(), stack[-1])
        self.page.end_line()

    # -- elements

    def _enter(self, node: LexborNode, above: _Frame) -> _Frame | None:
        """Open an element; None when nothing inside of it can be text."""
        tag = node.tag or ""
        if tag in _SILENT:
            return None
        attributes: Mapping[str, str | None] = node.attributes
        sight, element = self._sight(tag, attributes, above.sight)
        if tag in markup.UNREAD or (tag == "dialog" and "open" not in attributes):
            sight = sight._replace(gone=True)
        kind, depth = above.kind, above.depth
        if attributes and kind == "new":
            kind = self._kind(tag, attributes, node)
        frame = _Frame(tag, element, sight, kind, depth)
        if sight.gone:
            return frame
        if tag == "blockquote":
            self.page.gap(depth, above.kind)
            frame.depth = depth + 1
        elif tag in _SPACED and not (tag == "p" and _is_tight(attributes)):
            self.page.gap(depth, above.kind) if not _inside_list(tag, above) else self.page.end_line()
        elif tag in _BLOCKS or tag == "p":
            self.page.end_line()
        self._begin(frame, attributes, above)
        return frame

    def _sight(self, tag: str, attributes: Mapping[str, str | None], above: Sight) -> tuple[Sight, Element]:
        if not attributes and not self.sheet:
            element = Element(tag, "", _NO_CLASSES, attributes)
            return (look(above, tag, attributes, {}) if tag in _OWN_LOOK else above), element
        classes = frozenset((attributes.get("class") or "").split()) if self.sheet else _NO_CLASSES
        element = Element(tag, attributes.get("id") or "", classes, attributes)
        looks = (each for each in attributes.items() if each[0] not in _NOT_LOOKS)
        key = (tag, above, tuple(("href", "") if each[0] == "href" else each for each in looks))
        known = self._sights.get(key) if self.sheet.flat else None
        if known is not None:
            return known, element
        style = attributes.get("style")
        inline = declarations(style) if style else {}
        if style and len(style) > 8_000:
            self.uncertain = True
        sight = look(above, tag, attributes, self.sheet.declared(element, self.elements, inline))
        if len(self._sights) < 5_000:
            self._sights[key] = sight
        return sight, element

    def _kind(self, tag: str, attributes: Mapping[str, str | None], node: LexborNode) -> Kind:
        if self.rest_is_history:
            return "quote"
        match quoteblocks.role(tag, attributes):
            case "quote":
                return "quote"
            case "attribution":
                return "quote" if _is_attribution(node) else "new"
            case "container":
                return "new" if _holds_blockquote(node) else "quote"
            case "rest":
                self.page.end_line()
                self.rest_is_history = True
                return "quote"
            case "signature":
                return "signature"
            case "":
                return "new"

    def _begin(self, frame: _Frame, attributes: Mapping[str, str | None], above: _Frame) -> None:
        page = self.page
        match frame.tag:
            case "br":
                if page.parts:
                    page.end_line()
                else:
                    page.lines.append(Line("", frame.depth, self._now(frame.kind)))
            case "hr":
                page.end_line()
                page.lines.append(Line("---", frame.depth, self._now(frame.kind)))
            case "li":
                above.counter += 1
                level = sum(1 for element in self.elements[-40:] if element.tag in {"ul", "ol"})
                page.prefix = "  " * min(level - 1, 8) + (f"{above.counter}. " if above.tag == "ol" else "- ")
            case "ol":
                start = attributes.get("start") or ""
                frame.counter = int(start) - 1 if start.isdecimal() and len(start) < 6 else 0
            case "dd":
                page.prefix = "  "
            case "tr":
                frame.lines, page.lines = page.lines, []
            case "a":
                frame.link = _target(attributes.get("href") or "")
                frame.mark = len(page.lines), len(page.parts)
            case "q":
                self._text("“", frame)
            case "input":
                shown = (attributes.get("type") or "text").lower() in {"submit", "button", "text", "reset"}
                if shown and attributes.get("value"):
                    self._text(f"[{attributes['value']}]", frame)

    def _leave(self, frame: _Frame, above: _Frame) -> None:
        tag, page = frame.tag, self.page
        if frame.sight.gone:
            return
        if frame.link and frame.sight.seen:
            self._link(frame)
        if tag in {"td", "th"} and above.tag == "tr":
            page.end_line()
            above.cells.append(page.lines)
            page.lines, page.prefix = [], ""
        elif tag == "tr":
            page.end_line()
            frame.cells.append(page.lines)
            page.lines = frame.lines
            page.lines += _row(frame.cells)
        elif tag == "q":
            self._text("”", frame)
        elif tag in _SPACED:
            tight = tag == "p" and _is_tight(frame.element.attributes)
            page.end_line() if tight or _inside_list(tag, above) else page.gap(above.depth, above.kind)
        elif tag in _BLOCKS:
            page.end_line()
            if tag == "li":
                page.prefix = ""

    def _now(self, kind: Kind) -> Kind:
        return "quote" if self.rest_is_history and kind == "new" else kind

    # -- text

    def _text(self, text: str, frame: _Frame) -> None:
        sight = frame.sight
        if not sight.seen:
            self.hidden += len("".join(text.split()))
            return
        text, removed = clean(text)
        self.invisible += removed
        page = self.page
        if sight.preformatted and "\n" in text:
            first, *others = text.split("\n")
            self._put(first, frame)
            for line in others:
                if page.parts:
                    page.end_line()
                else:
                    page.lines.append(Line("", frame.depth, self._now(frame.kind)))
                self._put(line, frame)
            return
        if frame.tag == "sup" and text[:1].isdigit() and page.parts and page.parts[-1][-1:].isalnum():
            text = f"^{text}"  # 20 euros and 99 cents are not 2099
        if not sight.preformatted:
            text = _SPACES.sub(" ", text)
            if not page.parts or page.parts[-1].endswith(" "):
                text = text.lstrip(" ")
        self._put(text, frame)

    def _put(self, text: str, frame: _Frame) -> None:
        if text:
            if frame.sight.doubtful and not text.isspace():
                self.uncertain = True
            self.page.write(text, frame.depth, self._now(frame.kind))

    def _link(self, frame: _Frame) -> None:
        """Write the target behind the words of a link, unless the words are the target."""
        page, target = self.page, frame.link
        lines, parts = frame.mark
        label = "".join(page.parts[parts:]).strip() if lines == len(page.lines) else None
        if label is not None and _same(label, target):
            return
        if not label and not target.startswith("http"):
            return
        space = " " if page.parts and not page.parts[-1].endswith((" ", "\xa0")) else ""
        page.write(f"{space}<{target}>", frame.depth, self._now(frame.kind))


_NO_CLASSES: frozenset[str] = frozenset()
_NOT_LOOKS = frozenset(("src", "alt", "title", "name", "cellpadding", "cellspacing", "border", "align", "valign"))
_OWN_LOOK = frozenset(
    ("pre", "textarea", "listing", "xmp", "plaintext", "button", "select", "input", "mark", "details")
)


def _is_tight(attributes: Mapping[str, str | None]) -> bool:
    """Outlook writes each line as a <p> without margins; a blank line is a <p> of its own there."""
    if (attributes.get("class") or "").startswith(("Mso", "x_Mso")):
        return True
    style = (attributes.get("style") or "")[:500].replace(" ", "").lower()
    return "margin:0" in style or "margin-bottom:0" in style or "margin-top:0" in style


def _inside_list(tag: str, above: _Frame) -> bool:
    return (tag in {"ul", "ol"} and above.tag in {"li", "ul", "ol"}) or (tag == "p" and above.tag == "li")


def _is_attribution(node: LexborNode) -> bool:
    """Whether an element is one short line with a colon at its end, right before a block quote."""
    following = node.next
    while following is not None and not following.is_element_node:
        following = following.next
    if following is None or following.tag != "blockquote":
        return False
    text = (node.text(deep=True) or "").strip()
    if len(text) > 300 or not text.endswith((":", "：")):
        return False
    broken = False
    child = node.child
    while child is not None:
        broken = broken or child.tag in {"br", "div", "p"}
        if broken and (child.text(deep=True) or "").strip():
            return False  # a second line: somebody typed here
        child = child.next
    return True


def _holds_blockquote(node: LexborNode) -> bool:
    """Whether there is a block quote among the first children: a reply has one, a forwarded message has not."""
    child = node.child
    for _ in range(60):
        if child is None:
            return False
        if child.tag == "blockquote":
            return True
        child = child.next
    return False


def _row(cells: list[list[Line]]) -> list[Line]:
    """A table row as one line, "a | b | c", when its cells are short; otherwise cell under cell.

    A cell of two lines ("Blue<br>shirt") is one of them: under each other the columns could not be told.
    """
    filled = [[line for line in cell if line.text] for cell in cells]
    filled = [cell for cell in filled if cell]
    if len(filled) > 1 and (single := sum(len(cell) == 1 for cell in filled)):
        lines = [line for cell in filled for line in cell]
        size = sum(len(line.text) for line in lines)
        tidy = single == len(filled) or (
            size < 200 and all(len(_without_blank_edges(cell)) <= 2 for cell in cells) and not any(map(_is_item, lines))
        )
        if tidy and size < 1_000 and len({(line.depth, line.kind) for line in lines}) == 1:
            words = (" ".join(line.text.strip() for line in cell) for cell in filled)
            return [lines[0]._replace(text=" | ".join(words))]
    return [line for cell in cells for line in _without_blank_edges(cell)]


def _is_item(line: Line) -> bool:
    text = line.text.lstrip()
    return text[:2] == "- " or (text[:1].isdigit() and ". " in text[:8])


def _without_blank_edges(lines: list[Line]) -> list[Line]:
    start, end = 0, len(lines)
    while start < end and not lines[start].text:
        start += 1
    while start < end and not lines[end - 1].text:
        end -= 1
    return lines[start:end]


def _target(href: str) -> str:
    """A link's target as one word, or "" when it leads nowhere outside the message."""
    target = "".join(clean(href[: _MAX_LINK * 2])[0].split())
    target = target.replace("<", "%3C").replace(">", "%3E")
    if not target.lower().startswith(_SCHEMES):
        return ""
    if target[:7].lower() == "mailto:" and "?" in target:
        target = target.partition("?")[0]
    return target if len(target) <= _MAX_LINK else target[:_MAX_LINK] + "…"


def _same(label: str, target: str) -> bool:
    def bare(text: str) -> str:
        text = text.lower().removeprefix("mailto:").removeprefix("tel:")
        return text.removeprefix("https://").removeprefix("http://").rstrip("/").replace(" ", "")

    return bool(label) and bare(label.strip("<>")) == bare(target)
