"""A database URL as it may be printed. Pure, so that the settings need no database library for it."""

from __future__ import annotations

import re

_AUTHORITY = re.compile(r"\A(?P<user>(?>(?:[^/?@]*//)?)[^:/@?]*):.*@", re.DOTALL)
"""Greedy: in a password that holds an "@" and should not, the last one ends it: rather too little is printed.
Without `scheme://` too: what is no URL is printed in the error that says so."""
_IN_QUERY = re.compile(r"(?<=[?&])(?P<name>[^=&]*pass[^=&]*)=[^&]*", re.IGNORECASE)
"""libpq takes `password=` and `sslpassword=` there as well."""
_IN_WORDS = re.compile(r"\b(?P<name>\w*pass\w*\s*=\s*)(?:'[^']*'|[^&\s]+)", re.IGNORECASE)
"""What libpq takes in place of a URL, and we do not: `host=db password=…`."""


def without_password(url: str) -> str:
    """The URL with `***` where a password stands, before the host or in the query."""
    found = _AUTHORITY.match(url)
    shown = url if found is None else f"{found['user']}:***@{url[found.end() :]}"
    return _IN_WORDS.sub(r"\g<name>***", _IN_QUERY.sub(r"\g<name>=***", shown))
