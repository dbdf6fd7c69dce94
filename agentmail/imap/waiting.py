"""IDLE begun, waited for and ended, between the thread that speaks and the loop that listens."""

from __future__ import annotations

from ..errors import Unreachable
from . import idle, translate
from .idle import Idle
from .link import Link
from .wire import QUIET


class Waiting(Link):
    """The part of a connection that waits for news."""

    async def start_idle(self) -> bool:
        """Begin to idle; whether there is news already. False for ever after when the server will not (poll then).

        Raises:
            IdleRefused: it was not offered, or refused.
        """
        self._ready()
        if "IDLE" not in self.capabilities:
            raise translate.IdleRefused(f"IMAP {self.where}: IDLE is not offered")
        async with self._turn:
            wire = self._wire
            assert wire is not None
            begun = await self._call_now(lambda: idle.begin(wire), "starting to idle", self.timeout, QUIET)
            tag, at_hand, news = begun
            self._idle = Idle(wire, tag, at_hand, where=self.where, exists=None if news else self.exists)
            self._idle.news |= news
            worker, self._worker = self._worker, None
            if worker is not None:
                worker.shutdown(wait=False)  # it has nothing to do: the thread ends now
            return self._idle.news

    async def wait_idle(self, timeout: float) -> bool:
        """Wait while idling, at most `timeout` seconds; whether there is news. Raises Unreachable."""
        self._ready()
        if self._idle is None:
            return True  # somebody needed the connection; only they know what they saw
        try:
            return await self._idle.wait(timeout)
        except Unreachable:
            await self._finish()
            raise

    def wake(self) -> None:
        """End `wait_idle` as if there were news."""
        if self._idle is not None:
            self._idle.wake()

    async def stop_idle(self) -> bool:
        """End IDLE; whether there was news that nobody was told of."""
        async with self._turn:
            return await self._leave_idle() if self._idle is not None else False
