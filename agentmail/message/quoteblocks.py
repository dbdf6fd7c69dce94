"""The marks that mail programs leave in their HTML around quoted history and signatures.

Each rule names the program it comes from. They are what those programs write, not a standard: whatever is not
listed falls to the rules for plain text in `quotes`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

Role = Literal["", "quote", "attribution", "container", "rest", "signature"]
"""`quote`: this element is history. `attribution`: it was made for "On …, X wrote:", and may hold what the person
typed into it, above or under that line. `container`: it holds history and maybe an answer under it. `rest`: from this
element to the end of the message is history. `signature`: a signature."""

_QUOTE_CLASSES = frozenset(
    (
        "gmail_attr",  # "On …, X wrote:"
        "gmail_extra",
        "moz-forward-container",
        "moz-email-headers-table",
        "yahoo_quoted",
        "zmail_extra",  # Zoho
        "tutanota_quote",
        "sh-quoted-content",  # Superhuman
        "front-blockquote",
        "freshdesk_quote",
        "zd-quoted-text",
        "ms-outlook-mobile-reference-message",
        "mail-editor-reference-message-container",
        "AppleOriginalContents",
        "hmmessage_quoted",
    )
)
_CONTAINER_CLASSES = frozenset(("gmail_quote", "protonmail_quote"))
_QUOTE_IDS = frozenset(
    (
        "OLK_SRC_BODY_SECTION",  # Outlook for Mac
        "mail-editor-reference-message-container",  # Outlook mobile
        "isReplyContent",  # NetEase
        "isForwardContent",
        "reply-intro",  # Roundcube
        "_originalContent",  # BlackBerry
        "_replyHeader",
        "qt",  # Fastmail
    )
)
_REST_IDS = frozenset(
    (
        "divRplyFwdMsg",  # Outlook on the web, Outlook.com
        "stopSpelling",  # Hotmail
        "zwchr",  # Zimbra
        "replySplit",
        "ms-outlook-mobile-body-separator-line-quoted",
    )
)
_REST_CLASSES = frozenset(("OutlookMessageHeader", "xm_mail_oringinal_describe", "gmail_default_quote"))
_SIGNATURE = re.compile(
    r"(?:^|[-_])signature(?:[-_](?:block|prefix|separator))?$|^(?:mailbird|bloop)_sign", re.IGNORECASE
)
_SIGNATURE_IDS = frozenset(
    (
        *("Signature", "ms-outlook-mobile-signature", "AppleMailSignature", "AppleMailSignatureLine"),
        *("zmail_signature", "signature_old", "composer_signature", "Zm-_Id_-Sgn"),  # Zoho, eM Client, Samsung
    )
)
_OUTLOOK_LINE = re.compile(
    r"border-top\s*:\s*solid\s+(?:#(?:e1e1e1|b5c4df)\s+1\.0pt|1\.0pt\s+#(?:e1e1e1|b5c4df))", re.IGNORECASE
)
"""The line that Outlook for Windows draws over "From: … Sent: …"."""
_QUOTE_STYLE = re.compile(
    r"border-left(?:-\w+)?\s*:[^;]{0,40}(?:solid|\dpx)|margin(?:-left)?\s*:[^;]{0,30}\.8ex", re.IGNORECASE
)


def role(tag: str, attributes: Mapping[str, str | None]) -> Role:
    """What the marks on this element say about what stands inside."""
    names = (attributes.get("class") or "")[:500].split()
    identifier = (attributes.get("id") or "").removeprefix("x_")
    names = [name.removeprefix("x_") for name in names]  # Outlook renames what it quotes or forwards
    if identifier:
        if identifier in _QUOTE_IDS or identifier.startswith("yahoo_quoted"):
            return "quote"
        if identifier in _REST_IDS:
            return "rest"
        if identifier in _SIGNATURE_IDS:
            return "signature"
    if tag == "signature":
        return "signature"  # Mailspring
    if tag == "blockquote":
        return "quote" if _is_history(names, attributes) else ""
    for name in names:
        if name in _QUOTE_CLASSES:
            return "quote"
        if name == "moz-cite-prefix":  # Thunderbird
            return "attribution"
        if name in _CONTAINER_CLASSES:
            return "container"
        if name in _REST_CLASSES:
            return "rest"
        if _SIGNATURE.search(name):
            return "signature"
    marker = attributes.get("data-marker") or attributes.get("data-smartmail") or attributes.get("name") or ""
    if marker in {"__QUOTED_TEXT__", "messageReplySection", "quote"} and tag == "div":
        return "quote"  # Zimbra, Spark, GMX
    if marker == "__DIVIDER__":
        return "rest"
    if marker in {"__SIG_PRE__", "__SIG_POST__", "gmail_signature", "messageSignatureSection"}:
        return "signature"
    style = attributes.get("style")
    if tag == "div" and style and "border-top" in style and _OUTLOOK_LINE.search(style[:1_000]):
        return "rest"
    return ""


def _is_history(names: list[str], attributes: Mapping[str, str | None]) -> bool:
    """Whether a <blockquote> is what a mail program put there; people quote poems with it too."""
    if (attributes.get("type") or "").lower() == "cite" or "cite" in attributes:
        return True
    if any("quote" in name.lower() for name in names) or "quote" in (attributes.get("id") or "").lower():
        return True
    return bool(_QUOTE_STYLE.search((attributes.get("style") or "")[:1_000]))
