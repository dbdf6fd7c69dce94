"""The few CSS rules that can hide text: read from <style>, and matched, within limits.

Only what desktop clients apply counts: @media blocks for other sizes and for print are skipped. A selector that is
not understood applies to nothing; when its rule would hide text or paint a background, `doubtful` says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

_MAX_SHEET = 256 * 1024
_MAX_RULES = 2_000
_MAX_SELECTOR = 300
_MAX_DECLARATIONS = 8_192
_MATCH_STEPS = 120_000
"""Of one document: above it, rules are no longer applied and everything is doubtful."""

RELEVANT = frozenset(
    (
        *("display", "visibility", "opacity", "font-size", "color", "background-color", "background-image"),
        *("width", "height", "max-width", "max-height", "overflow-x", "overflow-y", "position", "float"),
        *("left", "right", "top", "bottom", "text-indent", "margin-left", "margin-top", "clip", "clip-path"),
        *("transform", "scale", "filter", "mask", "content-visibility", "text-fill", "background-clip"),
        *("z-index", "unicode-bidi", "text-shadow", "white-space", "translate", "mix-blend-mode", "text-security"),
        *("letter-spacing", "zoom"),
    )
)
_ALIASES = {
    "-webkit-text-fill-color": "text-fill",
    "-webkit-background-clip": "background-clip",
    "-webkit-text-security": "text-security",
    "-webkit-mask": "mask",
    "-webkit-mask-image": "mask",
    "mask-image": "mask",
    "-webkit-transform": "transform",
    "-ms-transform": "transform",
    "-webkit-filter": "filter",
    "-webkit-clip-path": "clip-path",
    "overflow-block": "overflow-y",
    "overflow-inline": "overflow-x",
    "inset-inline-start": "left",
    "inline-size": "width",
    "block-size": "height",
    "max-inline-size": "max-width",
    "max-block-size": "max-height",
    "margin-inline-start": "margin-left",
    "margin-block-start": "margin-top",
}
_HIDING = {
    "display": ("none",),
    "visibility": ("hidden", "collapse"),
    "opacity": ("0", "."),
    "font-size": ("0", "1px", "."),
    "position": ("absolute", "fixed"),
    "max-height": ("0",),
    "height": ("0",),
    "text-indent": ("-",),
}
"""How the values begin that could hide text, in rules whose selectors are not understood."""
_PAINTERS = frozenset(("background-color", "background-image"))
_STATES = (":hover", ":active", ":visited", ":focus", ":link", ":before", ":after")

_DECLARATION = re.compile(r"""(?:[^;"'(]|"[^"]*+(?:"|$)|'[^']*+(?:'|$)|\([^)]*+(?:\)|$))++""")
_ESCAPE = re.compile(r"\\(?:([0-9a-fA-F]{1,6})[ \t\n\r\f]?|\r?\n|([^0-9a-fA-F]))")

Declarations = Mapping[str, tuple[str, bool]]
"""Property -> (value, important)."""


def _unescape(css: str) -> str:
    """`d\\69splay` is `display` (CSS Syntax 4.3.7)."""

    def char(match: re.Match[str]) -> str:
        if match[1]:
            code = int(match[1], 16)
            return chr(code) if 0 < code < 0x110000 and not 0xD800 <= code < 0xE000 else "\ufffd"
        return match[2] or ""

    return _ESCAPE.sub(char, css) if "\\" in css else css


def _without_comments(css: str) -> str:
    if "/*" not in css:
        return css
    out: list[str] = []
    position = 0
    while (start := css.find("/*", position)) >= 0:
        out.append(css[position:start])
        end = css.find("*/", start + 2)
        if end < 0:
            return "".join(out)
        position = end + 2
    out.append(css[position:])
    return "".join(out)


def declarations(style: str) -> dict[str, tuple[str, bool]]:
    """The relevant declarations of a style attribute or of the inside of a rule; shorthands are taken apart."""
    style = _unescape(_without_comments(style[:_MAX_DECLARATIONS])).lower()
    found: dict[str, tuple[str, bool]] = {}
    simple = "(" not in style and '"' not in style and "'" not in style
    for declaration in style.split(";") if simple else _DECLARATION.findall(style):
        name, _, value = declaration.partition(":")
        value, bang, word = value.partition("!")
        important = bool(bang) and word.strip() == "important"
        name = name.strip()
        for longhand, part in _longhands(_ALIASES.get(name, name), value.strip()):
            if important or not found.get(longhand, ("", False))[1]:
                found[longhand] = part, important
    return found


def _longhands(name: str, value: str) -> Iterator[tuple[str, str]]:
    match name:
        case _ if name in RELEVANT:
            yield name, value
        case "background":
            yield "background-image", value if _paints_image(value) else "none"
            yield "background-color", value
        case "font":
            # font: italic bold 12px/30px Georgia, serif
            for token in value.split()[:6]:
                size = token.partition("/")[0]
                if size[:1].isdigit() or size[:1] == "." or size in {"smaller", "larger"}:
                    yield "font-size", size
                    break
        case "overflow":
            parts = value.split()
            yield "overflow-x", parts[0] if parts else ""
            yield "overflow-y", parts[-1] if parts else ""
        case "margin" | "inset":
            parts = value.split()[:4]
            if parts:
                left = parts[3] if len(parts) == 4 else parts[1] if len(parts) > 1 else parts[0]
                yield ("margin-top" if name == "margin" else "top"), parts[0]
                yield ("margin-left" if name == "margin" else "left"), left


def _paints_image(value: str) -> bool:
    return any(word in value for word in ("url(", "gradient(", "image(", "image-set(", "var(", "element(", "paint("))


class Element(NamedTuple):
    """What a selector looks at."""

    tag: str
    id: str
    classes: frozenset[str]
    attributes: Mapping[str, str | None]


class _Compound(NamedTuple):
    tag: str
    id: str
    classes: frozenset[str]
    attributes: tuple[tuple[str, str, str], ...]
    child: bool
    """True when the compound before it must be the parent, not only an ancestor."""


class _Rule(NamedTuple):
    compounds: tuple[_Compound, ...]
    """Rightmost first."""
    specificity: tuple[int, int, int]
    order: int
    declarations: Declarations


_PART = re.compile(
    r"""([.#])([\w-]+)|\[\s*([\w-]+)\s*(?:([~|^$*]?=)\s*(?:"([^"\]]*)"|'([^'\]]*)'|([^\s"'\]]+))\s*[is]?\s*)?\]|"""
    r"""([\w\u0080-\uffff-]+|\*)""",
    re.VERBOSE,
)


class Stylesheet:
    """The rules of one document. Feed it the <style> texts, then ask for each element."""

    def __init__(self) -> None:
        self.doubtful = False
        """True when a rule that could hide or paint was not understood, or too much work was asked for."""
        self.repaints = False
        """True when a rule that was not understood sets colours: then none of them is certain."""
        self.flat = True
        """True while no rule looks at ancestors or attributes: elements that are alike look alike."""
        self._rules: dict[str, list[_Rule]] = {}
        self._count = 0
        self._size = 0
        self._steps = 0

    def __bool__(self) -> bool:
        return bool(self._rules)

    def feed(self, css: str) -> None:
        """Read one <style> text."""
        self._size += len(css)
        if self._size > _MAX_SHEET:
            self.doubtful = True
            return
        for selectors, inside in _blocks(_without_comments(css).replace("<!--", " ").replace("-->", " ")):
            if self._count >= _MAX_RULES:
                self.doubtful = True
                return
            if "{" in inside:  # nested rules: no mail client reads them, and this does not either
                self.doubtful = self.doubtful or any(word in inside for word in _NESTED_DOUBT)
                continue
            found = declarations(inside)
            if found:
                self._add(selectors, found)

    def _add(self, selectors: str, found: Declarations) -> None:
        for selector in selectors.split(",")[:50]:
            self._count += 1
            rule = _selector(selector, self._count, found)
            if rule is None:
                if not selector.strip().endswith(_STATES) and "::" not in selector:
                    self.doubtful = self.doubtful or any(_could_hide(name, value) for name, (value, _) in found.items())
                    self.repaints = self.repaints or not _PAINTERS.isdisjoint(found)
                continue
            self.flat = self.flat and len(rule.compounds) == 1 and not rule.compounds[0].attributes
            last = rule.compounds[0]
            key = "#" + last.id if last.id else "." + min(last.classes) if last.classes else last.tag
            self._rules.setdefault(key, []).append(rule)

    def declared(self, element: Element, ancestors: Sequence[Element], inline: Declarations) -> dict[str, str]:
        """Property -> value for this element by the cascade; `ancestors` stand outermost first."""
        if not self._rules or self._steps > _MATCH_STEPS:
            return {name: value for name, (value, _) in inline.items()}
        candidates = list(self._rules.get(element.tag, ()))
        candidates += self._rules.get("*", ())
        if element.id:
            candidates += self._rules.get("#" + element.id, ())
        for name in element.classes:
            candidates += self._rules.get("." + name, ())
        best: dict[str, tuple[tuple[bool, bool, tuple[int, int, int], int], str]] = {}
        for rule in candidates:
            if self._steps > _MATCH_STEPS:
                self.doubtful = True
                break
            if not self._matches(rule, element, ancestors):
                continue
            for name, (value, important) in rule.declarations.items():
                rank = important, False, rule.specificity, rule.order
                if name not in best or best[name][0] < rank:
                    best[name] = rank, value
        for name, (value, important) in inline.items():
            rank = important, True, (0, 0, 0), 0
            if name not in best or best[name][0] < rank:
                best[name] = rank, value
        return {name: value for name, (_, value) in best.items()}

    def _matches(self, rule: _Rule, element: Element, ancestors: Sequence[Element]) -> bool:
        self._steps += 1
        if not _fits(rule.compounds[0], element):
            return False
        above = len(ancestors)
        must_be_parent = rule.compounds[0].child
        for compound in rule.compounds[1:]:
            while above > 0:
                above -= 1
                self._steps += 1
                if _fits(compound, ancestors[above]):
                    break
                if must_be_parent:
                    return False
            else:
                return False
            must_be_parent = compound.child
        return True


def _fits(compound: _Compound, element: Element) -> bool:
    return (
        compound.tag in ("*", element.tag)
        and (not compound.id or compound.id == element.id)
        and compound.classes <= element.classes
        and all(_has(element.attributes, *wanted) for wanted in compound.attributes)
    )


def _has(attributes: Mapping[str, str | None], name: str, operator: str, wanted: str) -> bool:
    if name not in attributes:
        return False
    value = (attributes.get(name) or "").lower()
    match operator:
        case "":
            return True
        case "=":
            return value == wanted
        case "~=":
            return wanted in value.split()
        case "^=":
            return bool(wanted) and value.startswith(wanted)
        case "$=":
            return bool(wanted) and value.endswith(wanted)
        case "*=":
            return bool(wanted) and wanted in value
    return value == wanted or value.startswith(wanted + "-")


def _selector(text: str, order: int, found: Declarations) -> _Rule | None:
    """A rule of tags, classes, ids, attributes, descendants and children; None for anything else."""
    text = _unescape(text.strip())
    if not text or len(text) > _MAX_SELECTOR:
        return None
    compounds: list[_Compound] = []
    child = False
    for word in text.replace(">", " > ").split():
        if word == ">":
            child = True
            continue
        compound = _compound(word, child=child)
        if compound is None:
            return None
        compounds.append(compound)
        child = False
    if not compounds or child:
        return None
    compounds.reverse()
    specificity = (
        sum(1 for compound in compounds if compound.id),
        sum(len(compound.classes) + len(compound.attributes) for compound in compounds),
        sum(1 for compound in compounds if compound.tag != "*"),
    )
    return _Rule(tuple(compounds), specificity, order, found)


def _compound(token: str, *, child: bool) -> _Compound | None:
    tag, identifier, classes, attributes = "*", "", set(), []
    position = 0
    while position < len(token):
        match = _PART.match(token, position)
        if match is None:
            return None
        position = match.end()
        mark, name, attribute, operator, *values, element = match.groups()
        if mark == ".":
            classes.add(name)
        elif mark == "#":
            identifier = name
        elif attribute:
            wanted = next((value for value in values if value is not None), "")
            attributes.append((attribute.lower(), operator or "", wanted.lower()))
        elif element and match.start() == 0:
            tag = element.lower()
        else:
            return None
    return _Compound(tag, identifier, frozenset(classes), tuple(attributes), child)


_NESTED_DOUBT = ("none", "hidden", "opacity", "font-size", "color")
"""In rules that are not read: what could hide text."""


def _could_hide(name: str, value: str) -> bool:
    return any(value.startswith(start) for start in _HIDING.get(name, ()))


def _blocks(css: str) -> Iterator[tuple[str, str]]:
    """`(selectors, declarations)` of each rule that a desktop screen applies."""
    position = 0
    while (opening := css.find("{", position)) >= 0:
        prelude = css[position:opening].rpartition(";")[2].rpartition("}")[2].strip()
        if prelude.startswith("@"):
            if _applies(prelude.lower()):
                position = opening + 1
                continue
            position = _end_of_block(css, opening)
            if prelude[:9].lower() == "@supports":
                yield prelude, css[opening + 1 : position]  # as nested rules: not applied, and perhaps doubtful
            continue
        closing = css.find("}", opening)
        if closing < 0:
            yield prelude, css[opening + 1 :]
            return
        yield prelude, css[opening + 1 : closing]
        position = closing + 1


def _applies(prelude: str) -> bool:
    if prelude.startswith("@media"):
        condition = prelude[6:].strip()
        return condition in _ALWAYS or all(map(_is_always_true, re.split(r"\band\b", condition)))
    return prelude.startswith("@layer") or _SUPPORTED.fullmatch(prelude) is not None


_SUPPORTED = re.compile(
    r"@supports\s*\(\s*(?:(?:display|position|float)\s*:\s*(?:block|inline|inline-block|none|table|flex|grid|absolute|left)|"
    r"(?:color|background-color)\s*:\s*[a-z#0-9]{3,20}|(?:opacity|margin|padding|font-size|width|height)\s*:\s*[0-9.]{1,6}(?:px|em|%)?)"
    r"\s*\)\s*"
)
"""Conditions that hold in whatever reads @supports at all; of others nobody can tell."""
_ALWAYS = frozenset(("all, screen", "screen, print", "not print", "print, screen"))
_WIDTH = re.compile(r"\(\s*(min|max)-(?:device-)?width\s*:\s*(\d{1,6})(?:\.\d+)?(?:px)?\s*\)$")


def _is_always_true(condition: str) -> bool:
    """Whether every screen that mail is read on, phones included, meets this condition."""
    condition = condition.strip()
    if condition in {"", "all", "screen", "only screen", "only all"}:
        return True
    width = _WIDTH.match(condition)
    return width is not None and (int(width[2]) <= 320 if width[1] == "min" else int(width[2]) >= 4_000)


def _end_of_block(css: str, opening: int) -> int:
    depth = 0
    for match in re.compile(r"[{}]").finditer(css, opening):
        depth += 1 if match[0] == "{" else -1
        if depth == 0:
            return match.end()
    return len(css)
