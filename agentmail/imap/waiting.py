"""IDLE begun, waited for and ended, between the thread that speaks and the loop that listens."""

from __future__ import annotations

from ..errors import Unreachable
from . import idle, translate
from .ear import Ear
from .idle import Idle
from .link import Link
from .translate import IdleRefused
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
            raise IdleRefused(f"IMAP {self.where}: IDLE is not offered")
        async with self._turn:
            if self._ear is not None and self._idle is None:
                return await self._idle_again(self._ear)
            wire = self._wire
            assert wire is not None
            begun = await self._call_in_turn(lambda: idle.begin(wire), "starting to idle", self.timeout, QUIET)
            tag, at_hand, news = begun
            self._ear = Ear(wire, at_hand, where=self.where)
            self._idle = Idle(self._ear, tag, begun=True, exists=None if news else self.exists)
            self._idle.news |= news
            worker, self._worker = self._worker, None
            if worker is not None:
                worker.shutdown(wait=False)  # it has nothing to do: the thread ends now
            return self._idle.news

    async def _idle_again(self, ear: Ear) -> bool:
        """From the event loop, which has the socket still."""
        wire = self._wire
        assert wire is not None
        try:
            tag, news = idle.say(wire)
            begun = Idle(ear, tag, begun=False, exists=None if news else self.exists)
            await begun.begin(self.timeout)
        except IdleRefused:
            ear.listen(None)
            raise
        except TimeoutError as exc:
            await self._finish()
            raise translate.Lost(f"IMAP {self.where}: no answer while starting to idle") from exc
        except BaseException as exc:
            await self._finish()
            if isinstance(exc, Exception):
                raise translate.translated(exc, self.where, "starting to idle") from exc
            raise
        begun.news |= news
        self._idle = begun
        return begun.news

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
            return await self._take_back() if self._idle is not None else False
