"""Bytes to text, whatever charset a mail claims: only charsets that mail uses, and always an answer.

Python's codec registry holds codecs that are not charsets (`hex`, `punycode`, `idna`, `undefined`): some raise, some
take quadratic time. So a name is looked up in an allow-list, and nothing else ever reaches the registry.
"""

from __future__ import annotations

import re

_NAMES = """
utf-8 utf-16 utf-16le utf-16be utf-32 utf-7 us-ascii
iso-8859-1 iso-8859-2 iso-8859-3 iso-8859-4 iso-8859-5 iso-8859-6 iso-8859-7 iso-8859-8 iso-8859-9 iso-8859-10
iso-8859-11 iso-8859-13 iso-8859-14 iso-8859-15 iso-8859-16
windows-1250 windows-1251 windows-1252 windows-1253 windows-1254 windows-1255 windows-1256 windows-1257 windows-1258
koi8-r koi8-u koi8-t iso-2022-jp iso-2022-jp-1 iso-2022-jp-2 iso-2022-jp-3 iso-2022-jp-ext iso-2022-kr shift_jis euc-jp
euc-kr johab gb2312 gbk gb18030 hz big5 big5-hkscs tis-620 cp437 cp850 cp852 cp855 cp858 cp862 cp866 cp874 cp932 cp949
cp950 macintosh mac-cyrillic ptcp154 kz1048
""".split()
# What mail says and what it means: the supersets that the WHATWG encoding standard and every client use.
_MEANS = {
    "us-ascii": "windows-1252", "iso-8859-1": "windows-1252", "latin1": "windows-1252", "latin-1": "windows-1252",
    "ascii": "windows-1252", "ansi_x3.4-1968": "windows-1252", "iso-ir-100": "windows-1252", "l1": "windows-1252",
    "iso-8859-9": "windows-1254", "iso-8859-11": "cp874", "tis-620": "cp874", "windows-874": "cp874",
    "gb2312": "gb18030", "gbk": "gb18030", "gb_2312-80": "gb18030", "cp936": "gb18030", "ms936": "gb18030",
    "x-gbk": "gb18030", "gb18030": "gb18030", "big5": "big5-hkscs", "x-big5": "big5-hkscs",
    "euc-kr": "cp949", "ks_c_5601-1987": "cp949", "ksc5601": "cp949", "ks_c_5601": "cp949", "korean": "cp949",
    "windows-949": "cp949", "shift_jis": "cp932", "shift-jis": "cp932", "sjis": "cp932", "x-sjis": "cp932",
    "windows-31j": "cp932", "ms_kanji": "cp932", "iso-2022-jp": "iso-2022-jp-ext",
    "utf8": "utf-8", "unicode-1-1-utf-8": "utf-8",
    "utf-8-sig": "utf-8", "utf8mb4": "utf-8", "unicode": "utf-16", "cp1250": "windows-1250", "cp1251": "windows-1251",
    "cp1252": "windows-1252", "cp1253": "windows-1253", "cp1254": "windows-1254", "cp1255": "windows-1255",
    "cp1256": "windows-1256", "cp1257": "windows-1257", "cp1258": "windows-1258", "x-cp1251": "windows-1251",
    "x-mac-roman": "macintosh", "iso-8859-8-i": "iso-8859-8", "iso-8859-8-e": "iso-8859-8",
    "iso-8859-6-i": "iso-8859-6",
    "eucjp": "euc-jp", "x-euc-jp": "euc-jp", "euckr": "euc-kr", "koi8": "koi8-r", "koi8r": "koi8-r", "ibm866": "cp866",
    "dos-866": "cp866", "ibm437": "cp437", "ibm850": "cp850", "hz-gb-2312": "hz", "x-user-defined": "windows-1252",
    "8bit": "windows-1252", "iso-8859-1-windows-3.1-latin-1": "windows-1252",
}  # fmt: skip
_CODEC = {"macintosh": "mac-roman", "windows-874": "cp874"}
_KNOWN: dict[str, str] = {}
for _name in [*_NAMES, *_MEANS]:
    _meant = _MEANS.get(_name, _name)
    _KNOWN[_name] = _CODEC.get(_meant, _meant)
    _KNOWN.setdefault(_name.replace("_", "-"), _KNOWN[_name])

_JUNK = re.compile(r"[\s\"'<>;,=]+")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def codec_of(charset: str) -> str | None:
    """The Python codec of a charset name as mail writes it, or None when mail has no such charset."""
    if len(charset) > 60:
        return None
    name = _JUNK.sub("", charset).lower().partition("*")[0]  # RFC 2231 5: charset*language
    found = _KNOWN.get(name) or _KNOWN.get(name.replace("_", "-"))
    if found is None and (match := re.fullmatch(r"iso-?8859-?(\d{1,2})", name.replace("_", "-"))):
        found = _KNOWN.get(f"iso-8859-{int(match[1])}")
    return found


def decode(data: bytes, charset: str | None) -> tuple[str, str | None]:
    """The text of `data`, and what was wrong with it: None, `unknown-charset` or `bad-charset`.

    Text without a charset, or with a wrong one, is UTF-8 when it decodes as UTF-8, and Windows-1252 otherwise.
    Every character of the result can be stored and printed as UTF-8; NUL is dropped.
    """
    codec = codec_of(charset) if charset else None
    defect = None if codec or not charset else "unknown-charset"
    if codec in {None, "windows-1252"}:
        try:
            text = data.decode("utf-8")
            if defect is None and codec == "windows-1252" and not data.isascii():
                defect = None  # a mail that says Latin-1 and sends UTF-8: what every client shows
        except UnicodeDecodeError:
            text = data.decode("windows-1252", "replace")
            if charset is None:
                defect = "no-charset"
    else:
        assert codec is not None
        try:
            text = data.decode(codec)
        except UnicodeDecodeError:
            try:
                text = data.decode("utf-8")
            except UnicodeDecodeError:
                text = data.decode(codec, "replace")
            defect = "bad-charset"
        if codec.startswith("utf") and text.startswith("\ufeff"):
            text = text[1:]
    return storable(text), defect


def storable(text: str) -> str:
    """The text without what no database stores: NUL is dropped, a lone surrogate becomes U+FFFD."""
    if text.isascii() and "\x00" not in text:
        return text
    return _UNSTORABLE.sub(lambda m: "" if m[0] == "\x00" else "\ufffd", text)
