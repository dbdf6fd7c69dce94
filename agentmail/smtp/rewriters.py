"""Services that give mail another Message-ID on its way out, and tell it in their reply to the final dot."""

from __future__ import annotations

import re

_SES = re.compile(r"(?:[a-z0-9-]+\.)?email-smtp(?:-fips)?\.([a-z0-9-]+)\.(?:vpce\.)?amazonaws\.com")
_SES_REPLY = re.compile(r"Ok ([0-9a-f]{16}-[0-9a-f-]{36,50})$", re.IGNORECASE)


def assigned_id(host: str, text: str) -> str | None:
    """The Message-ID that a rewriting service gave the mail, read from its reply to the final dot; None for most.

    Amazon SES replaces the header by `<id@region.amazonses.com>` and tells the id; Outlook.com tells the whole of it.
    """
    region = _SES.fullmatch(host.casefold())
    if region and (found := _SES_REPLY.search(text)):
        domain = "email.amazonses.com" if region[1] == "us-east-1" else f"{region[1]}.amazonses.com"
        return f"<{found[1]}@{domain}>"
    if found := re.search(r"<[^<>\s@]{1,200}@[^<>\s@]{1,200}\.(?:prod\.outlook|PROD\.OUTLOOK)\.(?:com|COM)>", text):
        return found[0]
    return None
