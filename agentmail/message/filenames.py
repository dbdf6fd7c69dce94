"""Names of attachments: what a sender wrote, made safe to use as a file name on any system."""

from __future__ import annotations

import re

from .characters import clean
from .words import one_line

MAX_BYTES = 150
"""Of a name, as UTF-8: file systems allow 255, and people put a prefix in front."""

_UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f/\\:*?"<>|\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]+')
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)(?:\.|\Z)", re.IGNORECASE)
_EXTENSIONS = {
    "text/plain": ".txt", "text/html": ".html", "text/calendar": ".ics", "text/csv": ".csv", "image/png": ".png",
    "image/jpeg": ".jpg", "image/gif": ".gif", "image/webp": ".webp", "image/svg+xml": ".svg",
    "application/pdf": ".pdf", "message/rfc822": ".eml", "message/global": ".eml",
    "message/delivery-status": ".txt", "text/rfc822-headers": ".txt", "application/ms-tnef": ".dat",
    "application/json": ".json", "application/zip": ".zip", "application/pgp-signature": ".asc",
    "application/pkcs7-signature": ".p7s", "application/pkcs7-mime": ".p7m",
}  # fmt: skip


def safe_name(name: str, content_type: str = "application/octet-stream", number: int = 0) -> str:
    """A file name that stays inside its directory on every system, and shows what it is.

    No separators, controls, invisible or reordering characters, no leading dot, no device name. Trap: the extension
    is still the sender's claim.
    """
    if name.isascii() and name.isalnum() and len(name) <= MAX_BYTES and not _DEVICE.match(name):
        return name
    text = clean(one_line(name[:4_000]))[0].replace("\\", "/").rpartition("/")[2]
    text = _UNSAFE.sub("_", text).strip(" .")
    size = len(text.encode("utf-8", "replace"))
    if size > MAX_BYTES:
        stem, dot, extension = text.rpartition(".")
        if not dot or len(extension) > 16 or not extension.isascii():
            stem, extension = text, ""
        room = MAX_BYTES - len(extension) - 1
        text = stem.encode("utf-8", "replace")[:room].decode("utf-8", "ignore").rstrip(" .")
        text = f"{text}.{extension}" if extension else text
    if not text:
        text = f"part-{number + 1}{_EXTENSIONS.get(content_type, '.bin')}"
    return f"_{text}" if _DEVICE.match(text) else text
