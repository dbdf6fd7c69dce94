"""PostgreSQL for the few short statements that run for every mail: asyncpg's own connections, a handful of them.

Two things made such a statement ten times as dear as it is. The planner takes a JSON list for a hundred rows and reads
a small table from end to end, and it plans anew for each execution; and taking a connection out of SQLAlchemy's pool
and putting it back takes as long as the statement does. So these connections plan once, and by index.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

SILENCE = 20.0
"""Seconds until a PostgreSQL server, or a worker inside a transaction, that says nothing is taken for gone."""
FRESH = 2.0
"""Seconds for which a connection that was in use is taken to live."""
MOST = 4
"""Connections at the same time. One that waits for the disk does not hold up the others."""

BY_INDEX = {
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",  # what is off is dear, and what is dear would be compiled
    **dict.fromkeys(
        ("enable_seqscan", "enable_bitmapscan", "enable_sort", "enable_hashjoin", "enable_mergejoin"), "off"
    ),
}
"""For look-ups: planning one takes as long as the look-up, so it is planned once; and by index, or a plan that was made
while the tables were empty would walk through them when they are large."""


def guards() -> dict[str, str]:
    """Settings of every connection: what a machine held that was cut off or stopped must come free without it."""
    return {
        "idle_in_transaction_session_timeout": f"{int(SILENCE * 1000)}",
        "tcp_keepalives_idle": f"{max(1, int(SILENCE / 2))}",
        "tcp_keepalives_interval": f"{max(1, int(SILENCE / 6))}", "tcp_keepalives_count": "3",
        "tcp_user_timeout": f"{int(SILENCE * 1000)}",
    }  # fmt: skip


class Direct:
    """The connections. Building it opens none.

    Args:
        url: As asyncpg takes it.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._idle: list[tuple[Any, float]] = []
        self._free = asyncio.Semaphore(MOST)
        self._closed = False

    async def run(self, work: Callable[[Any], Awaitable[T]]) -> T:
        """What `work` does with a connection. Whatever it raises, the connection is not used again."""
        async with self._free:
            connection = await self._taken()
            try:
                done = await work(connection)
            except BaseException:
                connection.terminate()
                raise
            if self._closed:
                connection.terminate()
            else:
                self._idle.append((connection, time.monotonic()))
            return done

    async def _taken(self) -> Any:
        import asyncpg  # of the extra `postgres`; SQLite users need not have it

        while self._idle:
            connection, used = self._idle.pop()
            if connection.is_closed():
                continue
            if time.monotonic() - used <= FRESH:
                return connection
            try:
                await connection.execute("SELECT 1", timeout=SILENCE)
            except Exception:  # noqa: BLE001 - of a connection that is just ending asyncpg has errors of many kinds
                connection.terminate()
            except BaseException:
                connection.terminate()
                raise
            else:
                return connection
        connection = await asyncpg.connect(self._url, timeout=10, server_settings=guards() | BY_INDEX)
        keep_alive(connection)
        return connection

    async def close(self) -> None:
        """Let the idle ones go; one that is in use goes when it is given back."""
        self._closed = True
        idle, self._idle = self._idle, []
        for connection, _ in idle:
            with suppress(Exception):  # it is being closed anyway
                await connection.close(timeout=1.0)


def keep_alive(connection: Any) -> None:
    """Let a connection of asyncpg end when the server is silent, and not after the quarter of an hour of TCP."""
    transport = getattr(connection, "_transport", None)  # asyncpg has no public way to its socket
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is None or sock.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, seconds in (("TCP_KEEPIDLE", SILENCE / 2), ("TCP_KEEPINTVL", SILENCE / 6), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):  # as far as the platform has them
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), max(1, int(seconds)))
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(SILENCE * 1000))
