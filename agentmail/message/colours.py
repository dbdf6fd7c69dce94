"""CSS colours and lengths, as far as it takes to tell that text cannot be seen.

Whatever is not understood comes back as None, and None never hides anything.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Colour(NamedTuple):
    red: int
    green: int
    blue: int
    alpha: float = 1.0


WHITE = Colour(255, 255, 255)
BLACK = Colour(0, 0, 0)
LINK = Colour(0, 0, 238)

# fmt: off
_CODES = {
    "white": "ffffff", "snow": "fffafa", "ivory": "fffff0", "floralwhite": "fffaf0", "ghostwhite": "f8f8ff",
    "mintcream": "f5fffa", "azure": "f0ffff", "seashell": "fff5ee", "whitesmoke": "f5f5f5",
    "aliceblue": "f0f8ff", "honeydew": "f0fff0", "lavenderblush": "fff0f5", "oldlace": "fdf5e6",
    "linen": "faf0e6", "cornsilk": "fff8dc", "lightyellow": "ffffe0", "beige": "f5f5dc",
    "lightcyan": "e0ffff", "lavender": "e6e6fa", "lightgoldenrodyellow": "fafad2", "papayawhip": "ffefd5",
    "lemonchiffon": "fffacd", "mistyrose": "ffe4e1", "gainsboro": "dcdcdc", "antiquewhite": "faebd7",
    "blanchedalmond": "ffebcd", "bisque": "ffe4c4", "moccasin": "ffe4b5", "wheat": "f5deb3",
    "lightgray": "d3d3d3", "lightgrey": "d3d3d3", "silver": "c0c0c0", "darkgray": "a9a9a9",
    "darkgrey": "a9a9a9", "gray": "808080", "grey": "808080", "dimgray": "696969", "dimgrey": "696969",
    "black": "000000", "red": "ff0000", "maroon": "800000", "yellow": "ffff00", "olive": "808000",
    "lime": "00ff00", "green": "008000", "aqua": "00ffff", "cyan": "00ffff", "teal": "008080",
    "blue": "0000ff", "navy": "000080", "fuchsia": "ff00ff", "magenta": "ff00ff", "purple": "800080",
    "orange": "ffa500", "pink": "ffc0cb", "gold": "ffd700", "brown": "a52a2a", "tomato": "ff6347",
    "crimson": "dc143c", "indigo": "4b0082", "violet": "ee82ee", "darkblue": "00008b", "darkred": "8b0000",
    "darkgreen": "006400", "lightblue": "add8e6", "lightgreen": "90ee90", "skyblue": "87ceeb",
    "steelblue": "4682b4", "royalblue": "4169e1", "slategray": "708090", "darkslategray": "2f4f4f",
    "coral": "ff7f50", "salmon": "fa8072", "khaki": "f0e68c", "tan": "d2b48c", "orchid": "da70d6",
    "turquoise": "40e0d0", "chocolate": "d2691e", "firebrick": "b22222",
}
# fmt: on
_NAMES = {name: Colour(int(code[:2], 16), int(code[2:4], 16), int(code[4:], 16)) for name, code in _CODES.items()}
_HEX = re.compile(r"#?([0-9a-f]{8}|[0-9a-f]{6}|[0-9a-f]{4}|[0-9a-f]{3})$")
_FUNCTION = re.compile(r"(rgb|hsl)a?\(([^()]{1,80})\)$")


def colour(value: str, *, legacy: bool = False) -> Colour | None:
    """The colour that a CSS value (or, with `legacy`, an HTML attribute) means; None when it is not certain."""
    value = value.strip().lower()
    if value == "transparent":
        return Colour(0, 0, 0, 0.0)
    named = _NAMES.get(value)
    if named is not None:
        return named
    if value.startswith("#") or legacy:
        match = _HEX.match(value)
        return _from_hex(match[1]) if match else None
    function = _FUNCTION.match(value)
    return _from_function(function[1], function[2]) if function else None


def _from_hex(digits: str) -> Colour:
    if len(digits) < 6:
        digits = "".join(digit * 2 for digit in digits)
    red, green, blue = (int(digits[at : at + 2], 16) for at in (0, 2, 4))
    return Colour(red, green, blue, int(digits[6:], 16) / 255 if len(digits) == 8 else 1.0)


def _from_function(name: str, arguments: str) -> Colour | None:
    parts = [part for part in re.split(r"[\s,/]+", arguments.strip()) if part]
    if len(parts) not in (3, 4):
        return None
    try:
        alpha = _fraction(parts[3], 1.0) if len(parts) == 4 else 1.0
        if name == "rgb":
            red, green, blue = (round(_fraction(part, 255.0)) for part in parts[:3])
        else:
            hue = float(parts[0].removesuffix("deg")) % 360 / 60
            red, green, blue = _from_hsl(hue, *(_fraction(part, 100.0) / 100 for part in parts[1:3]))
    except (ValueError, OverflowError):
        return None
    red, green, blue = (max(0, min(255, channel)) for channel in (red, green, blue))
    return Colour(red, green, blue, max(0.0, min(1.0, alpha)))


def _fraction(text: str, whole: float) -> float:
    return float(text[:-1]) * whole / 100 if text.endswith("%") else float(text)


def _from_hsl(hue: float, saturation: float, lightness: float) -> tuple[int, int, int]:
    chroma = (1 - abs(2 * lightness - 1)) * saturation
    second = chroma * (1 - abs(hue % 2 - 1))
    base = lightness - chroma / 2
    sextants = (
        (chroma, second, 0.0),
        (second, chroma, 0.0),
        (0.0, chroma, second),
        (0.0, second, chroma),
        (second, 0.0, chroma),
        (chroma, 0.0, second),
    )
    red, green, blue = (round((channel + base) * 255) for channel in sextants[int(hue) % 6])
    return red, green, blue


def distance(one: Colour, other: Colour) -> int:
    """The largest difference of a channel, 0 to 255."""
    return max(abs(one.red - other.red), abs(one.green - other.green), abs(one.blue - other.blue))


_LENGTH = re.compile(r"(?:calc\()?([+-]?(?:\d{1,9}(?:\.\d{0,9})?|\.\d{1,9})(?:e[+-]?\d{1,2})?)([a-z%]{0,4})\)?$")
_UNITS = {
    "px": 1.0,
    "": 1.0,
    "pt": 4 / 3,
    "pc": 16.0,
    "in": 96.0,
    "cm": 37.8,
    "mm": 3.78,
    "q": 0.94,
    "rem": 16.0,
    "vw": 12.8,
    "vh": 7.2,
    "vmin": 7.2,
    "vmax": 12.8,
    "%": 12.8,
}
"""Pixels, on a screen of 1280 by 720: only the sign and the order of magnitude matter."""


def length(value: str, font_size: float) -> float | None:
    """A length in pixels; None when it is not one."""
    match = _LENGTH.match(value.strip().lower())
    if match is None:
        return None
    number, unit = float(match[1]), match[2]
    if unit in {"em", "ex", "ch", "lh"}:
        return number * font_size * (1.0 if unit in {"em", "lh"} else 0.5)
    factor = _UNITS.get(unit)
    return None if factor is None else number * factor


_FONT_WORDS = {"xx-small": 9.0, "x-small": 10.0, "small": 13.0, "medium": 16.0, "large": 18.0, "x-large": 24.0}


def font_size(value: str, inherited: float) -> float | None:
    """A font size in pixels; None when it is not certain."""
    value = value.strip().lower()
    if value in {"inherit", "unset"}:
        return inherited
    if value.endswith("%") or value in {"smaller", "larger"}:
        share = length(value, 0.0) if value.endswith("%") else None
        return inherited * (share / 12.8 / 100 if share is not None else 0.83 if value == "smaller" else 1.2)
    return _FONT_WORDS.get(value, length(value, inherited))
