"""Waiting for what nobody announces. What has an event is waited for by that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
PATIENCE = 60.0
"""Seconds after which it counts as never, on the slowest of machines."""


async def until(met: Callable[[], T]) -> T:
    """Until something is so, looked at again and again; what it was then."""
    async with asyncio.timeout(PATIENCE):
        while not (found := met()):
            await asyncio.sleep(0.005)
    return found


async def turns(number: int = 50) -> None:
    """Let everybody do what needs no waiting."""
    for _ in range(number):
        await asyncio.sleep(0)


def state_of(pid: int) -> str:
    """What Linux says of a process: R, S, T, Z …; nothing where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def alive(pid: int) -> bool:
    return state_of(pid) not in {"", "Z"}
