"""Whether text can be seen, element by element.

Only what is certain hides: a value that is not understood leaves the text in and sets `doubt`. The reader is taken
to use a desktop client in light mode, which draws on white.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from .colours import BLACK, LINK, WHITE, Colour, colour, distance, font_size, length


class Sight(NamedTuple):
    """How text would look at one place of the document."""

    gone: bool = False
    """Hidden with everything inside: display:none, off the screen, no size, clipped away."""
    invisible: bool = False
    """visibility:hidden; a child may be visible again."""
    opacity: float = 1.0
    font: float = 16.0
    colour: Colour | None = BLACK
    background: Colour | None = WHITE
    doubt: bool = False
    """Something here may hide the text, and it is not certain."""
    preformatted: bool = False

    @property
    def seen(self) -> bool:
        """False only when a person certainly does not see text here."""
        if self.gone or self.invisible or self.font < 2 or self.opacity < 0.05:
            return False
        ink = self.colour
        if ink is None:
            return True
        if ink.alpha < 0.05:
            return False
        return self.background is None or ink.alpha < 1 or distance(ink, self.background) > _SAME

    @property
    def doubtful(self) -> bool:
        ink = self.colour
        return (
            self.doubt
            or self.opacity < 0.3
            or self.font < 4
            or (ink is not None and ink.alpha < 0.3)
            or (ink is not None and distance(ink, self.background or WHITE) <= _CLOSE)
        )


_SAME = 12
_CLOSE = 30
_FAR = -500.0
"""Pixels beyond the left or upper edge: nothing of that width stands there."""

_NOT_CLIPPED = frozenset(("td", "th", "tr", "table", "tbody", "thead", "tfoot", "caption"))
"""Tables grow with their text, whatever height they were given (CSS 2.1 17.5.3)."""
_INLINE = frozenset(
    (
        *("span", "font", "b", "i", "u", "s", "a", "em", "strong", "small", "big", "sub", "sup", "code", "tt", "label"),
        *("abbr", "cite", "q", "mark", "ins", "del", "strike", "bdo", "bdi", "kbd", "samp", "var", "time"),
    )
)
_OWN_SURFACE = frozenset(("button", "textarea", "select", "input", "mark", "fieldset", "meter", "progress"))


def look(above: Sight, tag: str, attributes: Mapping[str, str | None], declared: Mapping[str, str]) -> Sight:
    """The sight inside an element, from the sight around it."""
    gone = above.gone
    invisible, opacity, font = above.invisible, above.opacity, above.font
    ink, background, doubt = above.colour, above.background, above.doubt
    preformatted = above.preformatted or tag in {"pre", "listing", "xmp", "plaintext", "textarea"}

    if attributes:
        if "hidden" in attributes:
            display = declared.get("display", "none")
            gone = gone or display == "none"
            doubt = doubt or display != "none"
        if "bgcolor" in attributes:
            background = _painted(attributes.get("bgcolor"), background)
        if attributes.get("background"):
            background = None
        if tag in {"font", "body"}:
            ink_attribute = attributes.get("color" if tag == "font" else "text")
            if ink_attribute:
                ink = colour(ink_attribute, legacy=True)
        if "popover" in attributes:
            gone = True
    if tag == "a" and "href" in attributes and "color" not in declared:
        ink = LINK  # browsers give links their own colour, whatever is inherited
    if tag == "details" and "open" not in attributes:
        doubt = True  # closed until somebody clicks, where it is understood at all
    if tag in _OWN_SURFACE:
        background = None
    if not declared:
        return Sight(gone, invisible, opacity, font, ink, background, doubt, preformatted)

    get = declared.get
    if any("(" in declared[name] and _COMPUTED.search(declared[name]) for name in _HIDING_VALUES & declared.keys()):
        doubt = True
    gone = gone or get("display") == "none" or get("content-visibility") == "hidden"
    visibility = get("visibility")
    if visibility in {"hidden", "collapse"}:
        invisible = True
    elif visibility == "visible":
        invisible = False
    if "opacity" in declared:
        opacity *= _share(declared["opacity"])
    if "font-size" in declared:
        size = font_size(declared["font-size"], font)
        font = font if size is None else size
    if "color" in declared:
        value = declared["color"]
        ink = ink if value in {"inherit", "currentcolor"} else colour(value)
        doubt = doubt or (ink is None and "(" in value)  # oklch(), color-mix() …: it may be the ground's own colour
    if "text-fill" in declared:
        fill = colour(declared["text-fill"])
        if fill is not None and fill.alpha < 0.05 and "text" not in get("background-clip", ""):
            ink = fill
        else:
            ink = None
            doubt = True
    if get("background-color", "").lower() == "currentcolor" and ink is not None:
        background = ink
    else:
        background = _background(declared, background)
    if declared.get("white-space", "").startswith(("pre", "break-spaces")):
        preformatted = preformatted or declared["white-space"] in {"pre", "pre-wrap", "pre-line", "break-spaces"}
    if not gone and not _PLAIN.issuperset(declared):
        gone, maybe = _outside(declared, font, tag)
        doubt = doubt or maybe
        if get("position") in {"absolute", "fixed"} or get("margin-top", "").startswith("-"):
            background = None  # it stands on top of something else
    return Sight(gone, invisible, opacity, font, ink, background, doubt, preformatted)


_COMPUTED = re.compile(r"var\(|calc\(|min\(|max\(|clamp\(|env\(|attr\(")
_HIDING_VALUES = frozenset(
    ("display", "visibility", "opacity", "font-size", "color", "height", "max-height", "left", "top")
)
"""Properties whose value, when it has to be computed, may be the one that hides."""
_PLAIN = frozenset(
    ("display", "visibility", "opacity", "font-size", "color", "background-color", "background-image", "white-space")
)


def _share(value: str) -> float:
    number = length(value, 0.0)
    if number is None:
        return 1.0
    return max(0.0, min(1.0, number / 12.8 / 100 if value.strip().endswith("%") else number))


def _painted(value: str | None, behind: Colour | None) -> Colour | None:
    """The background after painting a colour over it; None when it is not certain."""
    paint = colour(value or "", legacy=True)
    if paint is None:
        return None
    if paint.alpha < 0.02:
        return behind
    return paint if paint.alpha >= 0.98 else None


def _background(declared: Mapping[str, str], behind: Colour | None) -> Colour | None:
    if "background-color" in declared:
        value = declared["background-color"]
        words = value.split() if "(" not in value else [value, *value.split()]
        paint = next((found for word in words if (found := colour(word)) is not None), None)
        if paint is not None:
            behind = paint if paint.alpha >= 0.98 else behind if paint.alpha < 0.02 else None
        elif not words or not set(words) <= {"none", "inherit", "initial", "unset", "repeat", "scroll", "0", "0%"}:
            behind = None
    image = declared.get("background-image", "none")
    return behind if image in {"none", "", "initial"} else None


_SCALED = re.compile(r"(?:scale(?:x|y|3d)?|matrix(?:3d)?)\(([^)]{1,80})\)")
_TURNED = re.compile(r"rotate[xy]\(\s*-?(?:90|270)deg")
_MOVED = re.compile(r"translate(?:x|y|3d)?\(\s*([^,)]{1,20})(?:,\s*([^,)]{1,20}))?")
_RECT = re.compile(r"rect\(([^)]{1,80})\)")
_CLIPPED = re.compile(
    r"inset\(\s*(?:100%|[5-9]\d%|\d{4,}px)|circle\(\s*0(?:px|%|em)?\s*(?:at|\))|ellipse\(\s*0(?![\d.]*[1-9])|"
    r"polygon\((?:\s*0(?:px|%)?\s+0(?:px|%)?\s*,?)+\)"
)
_CLIPS = frozenset(("hidden", "clip", "scroll", "auto"))


def _outside(declared: Mapping[str, str], font: float, tag: str) -> tuple[bool, bool]:
    """`(certain, maybe)`: whether a box is moved off the screen, has no size, or is clipped away."""
    get = declared.get

    def pixels(name: str) -> float | None:
        return length(declared[name], font) if name in declared else None

    position = get("position", "static")
    if position in {"absolute", "fixed", "relative", "sticky"}:
        for side in ("left", "top", "right", "bottom"):
            moved = pixels(side)
            if moved is not None and moved <= _FAR:
                return True, True
            if moved is not None and moved >= 2_000 and side in {"left", "top"}:
                return position == "fixed", True
        if (pixels("z-index") or 0) < 0:
            return False, True
    for name in ("text-indent", "margin-left", "margin-top"):
        moved = pixels(name)
        if moved is not None and moved <= _FAR:
            return True, True
        if moved is not None and moved >= (1_000 if name == "text-indent" else 2_000):
            return get("overflow-x") in _CLIPS, True
    shift, scale = get("transform", ""), get("scale", "")
    if shift:
        move = _MOVED.search(shift)
        moves = [length(part, font) or 0.0 for part in move.groups() if part] if move else []
        scaled = _SCALED.search(shift)
        if (scaled and _is_nothing(scaled[1], matrix="matrix" in shift)) or _TURNED.search(shift):
            return True, True
        if any(part <= _FAR for part in moves):
            return True, True
        if any(part >= 2_000 for part in moves):
            return False, True
    if scale and _is_nothing(scale):
        return True, True
    moved_by = [length(part, font) or 0.0 for part in get("translate", "").split()[:2]]
    if any(part <= _FAR for part in moved_by):
        return True, True
    rect = _RECT.match(get("clip", ""))
    if rect and position in {"absolute", "fixed"}:
        edges = [length(edge, font) for edge in re.split(r"[\s,]+", rect[1].strip())]
        if len(edges) == 4 and None not in edges:
            top, right, bottom, left = (edge or 0.0 for edge in edges)
            if bottom - top <= 1 or right - left <= 1:
                return True, True
    if "clip-path" in declared and get("clip-path") != "none":
        return bool(_CLIPPED.search(declared["clip-path"])), True
    if "opacity(0" in get("filter", "") and not re.search(r"opacity\(0?\.\d*[1-9]", declared["filter"]):
        return True, True
    doubt = (
        get("filter", "none") not in {"none", ""}
        or get("mask", "none") not in {"none", ""}
        or "override" in get("unicode-bidi", "")
        or get("text-shadow", "none") not in {"none", ""}
        or get("mix-blend-mode", "normal") not in {"normal", ""}
        or get("text-security", "none") not in {"none", ""}
        or (pixels("letter-spacing") or 0) <= -5
        or 0 <= _share(get("zoom", "1")) < 0.3
    )
    empty = _no_room(declared, pixels("height"), pixels("max-height"), pixels("width"), pixels("max-width"))
    if not empty:
        return False, doubt
    boxed = (
        tag not in _INLINE
        or position in {"absolute", "fixed"}
        or get("float", "none") in {"left", "right"}
        or get("display", "inline") not in {"inline", "contents"}
    )
    if tag in _NOT_CLIPPED and get("display", "table") in {"table", "table-cell", "table-row"}:
        return False, True
    return boxed, doubt or boxed


def _is_nothing(factors: str, *, matrix: bool = False) -> bool:
    """Whether a scale by these factors leaves nothing to see."""
    parts = re.split(r"[\s,]+", factors.strip())
    if matrix:
        parts = [parts[0], parts[3] if len(parts) == 6 else parts[0]]
    numbers = [length(part.replace("%", ""), 0.0) for part in parts[:2]]
    limit = 5 if "%" in factors else 0.05
    return any(number is not None and abs(number) < limit for number in numbers)


def _no_room(
    declared: Mapping[str, str],
    height: float | None,
    max_height: float | None,
    width: float | None,
    max_width: float | None,
) -> bool:
    """Whether a box of a few pixels cuts off what does not fit."""
    low = any(side is not None and side < 4 for side in (height, max_height))
    narrow = any(side is not None and side < 4 for side in (width, max_width))
    # overflow of one axis makes the other one "auto", which cuts off as well (CSS Overflow 3.1)
    cuts = declared.get("overflow-x") in _CLIPS or declared.get("overflow-y") in _CLIPS
    return cuts and (low or narrow)
