"""Logins at rest: in the system's keyring when `keyring` is installed, else in a file that its owner alone can read."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from .errors import ConfigurationError, Unreachable

try:
    import fcntl
except ImportError:  # Windows: one process at a time should refresh there
    fcntl = None  # type: ignore[assignment]

PATIENCE = 60.0
"""Seconds to wait for another process that refreshes; its own request ends before."""


class TokenFile:
    """One login an account. Several processes may use it at once."""

    def __init__(self, path: Path, *, use_keyring: bool = True) -> None:
        self.path = path
        self._keyring = _keyring() if use_keyring else None

    def load(self, account: str) -> dict[str, Any] | None:
        """What is kept for an account.

        Raises:
            ConfigurationError: the file cannot be read, or holds something else.
        """
        if self._keyring is not None:
            found = self._keyring.get_password("agentmail", account)
            return json.loads(found) if found else None
        kept = self._all().get(account)
        return kept if isinstance(kept, dict) else None

    def save(self, account: str, what: dict[str, Any]) -> None:
        """Keep it. A process that dies meanwhile leaves the old file whole; what others keep stays."""
        if self._keyring is not None:
            self._keyring.set_password("agentmail", account, json.dumps(what))
            return
        with self._lock("write") as lock:
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_EX)
            self._replace({**self._all(), account: what})

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Alone among all processes: what is loaded in here stays true until the end.

        Raises:
            Unreachable: another process does not come to an end.
        """
        with self._lock("refresh") as lock:
            end = asyncio.get_running_loop().time() + PATIENCE
            while fcntl is not None:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if asyncio.get_running_loop().time() > end:
                        raise Unreachable(f"{self.path}: another process keeps it locked; try again") from None
                    await asyncio.sleep(0.05)
            yield

    def _lock(self, what: str) -> Any:
        """A file beside the tokens; closing it gives the lock back, and so does the end of the process."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            name = self.path.with_name(f".{self.path.name}.{what}")
            return os.fdopen(os.open(name, os.O_RDWR | os.O_CREAT, 0o600), "r+")
        except OSError as exc:
            raise ConfigurationError(f"token_file {self.path}: {exc.strerror}") from exc

    def _replace(self, kept: dict[str, Any]) -> None:
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")  # made with mode 0600
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(kept, file)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self.path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def _all(self) -> dict[str, Any]:
        try:
            text = self.path.read_text(encoding="utf-8")
            if self.path.stat().st_mode & 0o077:  # copied, or made by hand
                with suppress(OSError):
                    self.path.chmod(0o600)
            kept = json.loads(text)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as exc:
            reason = getattr(exc, "strerror", None) or "not what `agentmail login` wrote"
            raise ConfigurationError(f"token_file {self.path}: {reason}; mend or remove it") from exc
        return kept if isinstance(kept, dict) else {}


def _keyring() -> Any:
    try:
        import keyring  # type: ignore[import-not-found, unused-ignore]  # not a dependency: used when it is there
    except ImportError:
        return None
    return keyring
