"""Bytes to text by the charset that a sender claims, from an allow-list.

Python's codec registry also holds things that are no charsets of mail (`idna`, `punycode`, `hex`, `zip`,
`unicode_escape`, `undefined`): some are quadratic, some raise what no caller expects. So a label is looked up here
and nowhere else. Labels mean what browsers and mail programs take them for (the WHATWG supersets): `iso-8859-1` is
read as windows-1252, `gb2312` as GB18030, `shift_jis` as cp932.
"""

from __future__ import annotations

import codecs
import re
from functools import lru_cache
from typing import NamedTuple

_TABLE = """
utf_8: utf-8 utf8 unicode-1-1-utf-8 utf-8n cp65001 65001 utf_8 utf8mb4 x-utf-8
utf_7: utf-7 utf7 unicode-1-1-utf-7 x-unicode-2-0-utf-7
utf_16: utf-16 utf16 unicode ucs-2 iso-10646-ucs-2
utf_16_le: utf-16le
utf_16_be: utf-16be unicodefffe
utf_32: utf-32 utf32 ucs-4
utf_32_le: utf-32le
utf_32_be: utf-32be
ascii: us-ascii ascii ansi_x3.4-1968 iso646-us 646 us usascii ascii-us iso-ir-6 x-us-ascii
cp1252: iso-8859-1 iso8859-1 iso_8859-1 latin1 latin-1 l1 8859_1 windows-1252 cp1252 cp-1252 x-cp1252 win-1252 ansi
cp1252: iso88591 iso-8859-1-windows-3.1-latin-1 ibm819 cp819 en_us iso-8859 iso8859_1 8859-1 iso-latin-1
cp1250: windows-1250 cp1250 cp-1250 x-cp1250 win-1250
cp1251: windows-1251 cp1251 cp-1251 x-cp1251 win-1251 win1251 ansi-1251
cp1253: windows-1253 cp1253 x-cp1253
cp1254: windows-1254 cp1254 x-cp1254 iso-8859-9 iso8859-9 latin5 l5
cp1255: windows-1255 cp1255 x-cp1255
cp1256: windows-1256 cp1256 x-cp1256
cp1257: windows-1257 cp1257 x-cp1257
cp1258: windows-1258 cp1258 x-cp1258
iso8859_2: iso-8859-2 iso8859-2 latin2 l2
iso8859_3: iso-8859-3 iso8859-3 latin3
iso8859_4: iso-8859-4 iso8859-4 latin4
iso8859_5: iso-8859-5 iso8859-5 cyrillic
iso8859_6: iso-8859-6 iso8859-6 iso-8859-6-i iso-8859-6-e arabic
iso8859_7: iso-8859-7 iso8859-7 greek
iso8859_8: iso-8859-8 iso8859-8 iso-8859-8-i iso-8859-8-e hebrew logical visual
iso8859_10: iso-8859-10 iso8859-10 latin6
cp874: iso-8859-11 iso8859-11 tis-620 tis620 windows-874 cp874 x-windows-874 dos-874
iso8859_13: iso-8859-13 iso8859-13
iso8859_14: iso-8859-14 iso8859-14
iso8859_15: iso-8859-15 iso8859-15 latin9 latin-9 l9
iso8859_16: iso-8859-16 iso8859-16
koi8_r: koi8-r koi8r koi8 koi cskoi8r
koi8_u: koi8-u koi8u koi8-ru
mac_roman: macintosh mac macroman x-mac-roman
mac_cyrillic: x-mac-cyrillic x-mac-ukrainian
mac_latin2: x-mac-ce x-mac-centraleurroman
cp437: ibm437 cp437 437
cp850: ibm850 cp850 850
cp852: ibm852 cp852 852
cp855: ibm855 cp855
cp858: ibm858 cp858
cp862: ibm862 cp862 dos-862
cp866: ibm866 cp866 866 csibm866
gb18030: gb18030 gb2312 gbk gb_2312-80 x-gbk cp936 936 ms936 windows-936 csgb2312 euc-cn euccn x-euc-cn
gb18030: gb2312-80 gb-2312
hz: hz-gb-2312 hz
big5hkscs: big5-hkscs big5hkscs
cp950: big5 big-5 cn-big5 x-x-big5 cp950 950 ms950 windows-950 csbig5
cp932: shift_jis shift-jis sjis x-sjis ms_kanji cp932 windows-31j csshiftjis ms932 shiftjis windows-932
euc_jp: euc-jp eucjp x-euc-jp x-euc-jp-ms cseucpkdfmtjapanese eucjp-ms
iso2022_jp: iso-2022-jp iso2022-jp csiso2022jp cp50220 cp50221 cp50222 iso-2022-jp-1 iso-2022-jp-2 iso-2022-jp-3
iso2022_kr: iso-2022-kr csiso2022kr
cp949: ks_c_5601-1987 ks_c_5601 ksc5601 ksc_5601 korean euc-kr euckr cp949 949 ms949 windows-949 uhc cseuckr
cp949: ks_c_5601-1989
johab: johab
"""
_CODECS: dict[str, str] = {
    label: codec
    for codec, labels in (line.split(":") for line in _TABLE.split("\n") if line)
    for label in labels.split()
}
_META = re.compile(rb"<meta[^>]{1,300}?charset\s{0,9}=\s{0,9}[\"']?\s{0,9}([A-Za-z0-9_:.-]{1,40})", re.IGNORECASE)
ONE_BYTE = ("cp125", "iso8859", "koi8", "mac_", "cp4", "cp8")
"""Charsets in which each byte is a character, whatever stands beside it, by how their codecs begin."""
_MAX_BROKEN = 4_000_000
"""Bytes of a text that are read when it is not of its charset: each byte that is none costs time."""
_MAX_BROKEN_UTF7 = 1_000_000
"""The same for UTF-7, where Python's codec takes a quarter of a microsecond for each."""
_MAX_JIS = 400_000
"""Bytes in which what Python's codec refuses is looked at one by one; in a longer text it is lost."""
_ESCAPE = re.compile(rb"\x1b(\$@|\$B|\$\(D|\(B|\(J|\(I)")


class Decoded(NamedTuple):
    """Text, and what had to be done for it."""

    text: str
    defect: str | None = None
    """`unknown-charset`: no such charset in mail; `bad-charset`: the bytes are not of the charset they claim."""
    cut: bool = False
    """True when only the beginning was read."""


def codec_of(label: str) -> str | None:
    """The Python codec for a charset label; None when mail has no such charset."""
    found = _CODECS.get(label)
    if found is None:
        found = _CODECS.get(label.strip(" \t\"'").lower()[:64])
    return found


def decode(data: bytes, label: str | None) -> Decoded:
    """The text of `data`. Every byte string gives some text; nothing raises.

    Without a label, and with a wrong one, UTF-8 is tried first: few other texts happen to be valid UTF-8.
    """
    if not label:
        return Decoded(*_guess(data))
    codec = codec_of(label)
    if codec is None:
        return Decoded(_guess(data)[0], "unknown-charset")
    if codec in {"utf_8", "ascii"}:
        try:
            return Decoded(data.decode("utf-8"))
        except UnicodeDecodeError:
            return Decoded(_broken_utf8(data[:_MAX_BROKEN]), "bad-charset", len(data) > _MAX_BROKEN)
    try:
        return Decoded(data.decode(codec))
    except UnicodeDecodeError:
        pass
    if codec == "cp1252":
        return Decoded(_cp1252(data))
    if codec == "iso2022_jp" and data.isascii() and len(data) <= _MAX_JIS:
        return _jis(data)
    if codec in ("iso2022_jp", "gb18030", "cp949", "cp950", "big5hkscs", "euc_jp", "cp932"):
        # A text in UTF-8 under the label of a reply's quoted ancestor is common; the other way round is not.
        try:
            return Decoded(data.decode("utf-8"), "bad-charset")
        except UnicodeDecodeError:
            pass
    if codec == "iso2022_jp" and len(data) <= _MAX_JIS:
        return _jis(data)
    if codec.startswith(ONE_BYTE):
        return Decoded(codecs.charmap_decode(data, "strict", _letters(codec))[0], "bad-charset")
    limit = _MAX_BROKEN_UTF7 if codec == "utf_7" else _MAX_BROKEN
    return Decoded(data[:limit].decode(codec, "replace"), "bad-charset", len(data) > limit)


def charset_in_html(data: bytes) -> str | None:
    """The charset that the HTML itself names, for a part whose header names none."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    match = _META.search(data, 0, 2_048)
    if match is None:
        return None
    label = match[1].decode("ascii").lower()
    return None if label.startswith("utf-16") else label  # it could be read, so it is not UTF-16 (WHATWG)


# ---------------------------------------------------------------------------------------------------------------------


def _guess(data: bytes) -> tuple[str, str | None]:
    try:
        return data.decode("utf-8"), None
    except UnicodeDecodeError:
        return _cp1252(data), "no-charset"


def _broken_utf8(data: bytes) -> str:
    """UTF-8 where it is nearly UTF-8 (cut inside a letter, some junk), windows-1252 where it is not at all."""
    text = data.decode("utf-8", "replace")
    bad = text.count("\ufffd")
    if b"\xed" in data:
        try:  # halves of UTF-16, each in UTF-8: CESU-8 when they are pairs
            halves = data.decode("utf-8", "surrogatepass")
            return halves.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        except UnicodeDecodeError:
            pass
    high = len(data) - len(data.translate(None, bytes(range(0x80, 0x100))))
    return text if bad * 4 <= high else _cp1252(data)


def _cp1252(data: bytes) -> str:
    """windows-1252 as browsers read it: the five holes are the C1 controls of Latin-1."""
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError:
        return codecs.charmap_decode(data, "strict", _CP1252)[0]


@lru_cache(maxsize=64)
def _letters(codec: str) -> str:
    """The character of each byte; U+FFFD for none, which costs no more this way than any other."""
    return "".join(bytes([code]).decode(codec, "replace") for code in range(0x100))


_CP1252 = "".join(bytes([code]).decode("cp1252", "ignore") or chr(code) for code in range(0x100))


def _jis(data: bytes) -> Decoded:
    """ISO-2022-JP as Windows writes it: NEC's special characters and half-width kana, which Python's codec refuses.

    Between its escapes it is JIS X 0208 by row and cell, which cp932 holds too, with those additions.
    """
    out: list[str] = []
    mode = b"(B"
    position = 0
    bad = False
    for match in _ESCAPE.finditer(data):
        text, ok = _jis_run(data[position : match.start()], mode)
        out.append(text)
        bad |= not ok
        mode, position = match[1], match.end()
    text, ok = _jis_run(data[position:], mode)
    out.append(text)
    return Decoded("".join(out), None if ok and not bad else "bad-charset")


def _jis_pairs(run: bytes) -> str:
    """JIS X 0208 by row and cell; what is no pair is one replacement character, and the next byte begins anew."""
    out: list[str] = []
    pairs = bytearray()
    at, end = 0, len(run)
    while at < end:
        row, cell = run[at], run[at + 1] if at + 1 < end else 0
        if 0x21 <= row <= 0x7E and 0x21 <= cell <= 0x7E:
            lead = ((row + 1) >> 1) + (0x70 if row < 0x5F else 0xB0)
            pairs += bytes((lead, cell + (0x7E if row % 2 == 0 else 0x1F if cell < 0x60 else 0x20)))
            at += 2
        else:
            out += (pairs.decode("cp932", "replace"), "\ufffd")
            pairs.clear()
            at += 1
    return "".join((*out, pairs.decode("cp932", "replace")))


def _jis_run(run: bytes, mode: bytes) -> tuple[str, bool]:
    if not run:
        return "", True
    if mode in (b"$@", b"$B"):
        line, newline, rest = run.partition(b"\n")
        text = _jis_pairs(line.removesuffix(b"\r"))
        # RFC 1468: a line ends in ASCII, so a newline here means that the way back was lost.
        return text + (newline + rest).decode("ascii", "replace"), not newline and "\ufffd" not in text
    if mode == b"(I":
        return bytes(byte | 0x80 for byte in run).decode("cp932", "replace"), True
    if mode == b"$(D":
        text = (b"\x1b$(D" + run).decode("iso2022_jp_2", "replace")
        return text, "\ufffd" not in text
    if run.isascii():
        return run.decode("ascii"), True
    return run.decode("cp932", "replace"), False
