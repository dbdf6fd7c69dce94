"""What never belongs into mail that a model wrote: keys and passwords, by the forms their makers gave them, and what
mail programs fetch from elsewhere, so that showing the mail tells something.
"""

from __future__ import annotations

import html as html_module
import re

from .message.characters import clean

SECRETS: tuple[tuple[str, str], ...] = (
    ("private key", r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY(?: BLOCK)?-----|\bAGE-SECRET-KEY-1[A-Z0-9]{50,70}\b"),
    ("AWS access key", r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    ("GitHub token", r"\b(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{60,255})\b"),
    ("GitLab token", r"\bglpat-[A-Za-z0-9_-]{20,250}\b"),
    # A digit: "xoxo-love-and-kisses" is none.
    ("Slack token", r"\b(?:xox[abeoprs]|xapp)-\d[A-Za-z0-9-]{9,250}\b"),
    ("Slack token", r"\bhooks\.slack\.com/services/T[A-Za-z0-9/]{20,100}"),
    ("Google API key", r"\bAIza[A-Za-z0-9_-]{35}\b"),
    ("Google OAuth secret", r"\bGOCSPX-[A-Za-z0-9_-]{20,100}|\bya29\.[A-Za-z0-9_-]{30,1000}"),
    ("Stripe key", r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{20,250}\b|\bwhsec_[A-Za-z0-9]{24,100}\b"),
    # No hyphens but after a known name: the address of a page may begin with "sk-", the code of a language.
    ("API key", r"\bsk-(?:(?:proj|svcacct|admin|ant|or)-[A-Za-z0-9_-]{32,250}|[A-Za-z0-9]{32,250})\b"),
    ("API key", r"\b(?:gsk_|xai-|hf_|npm_)[A-Za-z0-9]{32,250}\b|\b(?:dop_v1_|shp(?:at|ca|pa|ss)_)[0-9a-f]{32,64}\b"),
    ("PyPI token", r"\bpypi-AgE[A-Za-z0-9_-]{50,1000}"),
    ("SendGrid key", r"\bSG\.[A-Za-z0-9_-]{20,24}\.[A-Za-z0-9_-]{40,45}"),
    ("Telegram token", r"\b\d{8,10}:AA[A-Za-z0-9_-]{33}\b"),
    ("Azure key", r"\bAccountKey=[A-Za-z0-9+/]{80,90}"),
    ("password in an address", r"\b[a-z]{2,12}(?:\+[a-z0-9]{1,20})?://[^\s:/@]{1,64}:[^\s/@]{3,100}@[A-Za-z0-9\[]"),
    ("JSON web token", r"\beyJ[A-Za-z0-9_-]{10,1000}\.eyJ[A-Za-z0-9_-]{10,2000}\.[A-Za-z0-9_-]{10,1000}"),
)
"""Name, pattern. Linear to match; nearly all have a fixed prefix."""


def secrets_in(text: str) -> list[str]:
    """The names of the kinds of secrets that a text holds."""
    return list(dict.fromkeys(name for name, pattern in SECRETS if re.search(pattern, text)))


_TAG = re.compile(r"""<(?:[^<>"']|"[^"<]*+"|'[^'<]*+')*+>|<[^<>]{0,2000}>""")
_COMMENT_END = re.compile(r"-->|(?<!<!)--!>")


def as_read(text: str, html: str) -> str:
    """Both as they are, and as who reads them sees them: without markup, entities and characters that show nothing.

    Trap: it is no HTML parser. What it leaves of markup, and that it joins paragraphs, does no harm to a search.
    """
    seen = html_module.unescape(_TAG.sub("", _without_comments(html)))
    return clean(f"{text}\n{html}\n{seen}")[0]


def _without_comments(html: str) -> str:
    kept, at = [], 0
    # From the second character on: `<!-->` is a whole one, as `<!--->` is.
    while (start := html.find("<!--", at)) >= 0 and (end := _COMMENT_END.search(html, start + 2)):
        kept.append(html[at:start])
        at = end.end()
    return "".join(kept) + html[at:]


_ONE, _SET = (re.compile(rf"{begin}(?:https?:)?//", re.IGNORECASE) for begin in (r"\A\s*+", r"(?:\A|[\s,])"))
_ATTRIBUTE = re.compile(
    r"""(?<![\w-])(src|srcset|poster|background|data|lowsrc|dynsrc)\s*+=\s*+("[^"]*+"|'[^']*+'|[^\s"'>]++)""",
    re.IGNORECASE,
)
_REMOTE = r"""\s*+["']?\s*+(?:https?:)?//"""
_FETCHED = re.compile(
    rf"<(?:link|image|use)\b[^<>]{{0,1000}}?\bhref\s*+={_REMOTE}|\burl\({_REMOTE}|@import{_REMOTE}|"
    r"!\[[^\]\n]{0,300}\]\(",
    re.IGNORECASE,
)


def fetches(html: str) -> bool:
    """Whether whoever shows this HTML, or text, gets something from elsewhere: an image, mostly."""
    if _FETCHED.search(html):
        return True
    return any(
        (_SET if name.lower() == "srcset" else _ONE).search(html_module.unescape(value.strip("\"'")))
        for name, value in _ATTRIBUTE.findall(html)
    )
