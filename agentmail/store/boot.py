"""What there is to know of the machine itself."""

from __future__ import annotations

from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot() -> str | None:
    """Another word each time the machine starts; None where it cannot be told (all but Linux)."""
    try:
        return _BOOT_ID.read_text("ascii").strip() or None
    except (OSError, UnicodeDecodeError):
        return None
