"""A private PostgreSQL cluster with one database a test."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg

from .process import MEMORY, free_port, short_directory, spawn, stop, unprivileged

FAST = ["fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_wal_size=128MB", "shared_buffers=64MB",
        "max_connections=200", "log_min_messages=warning", "timezone=UTC"]  # fmt: skip
"""Nothing of it has to survive a power cut."""


def binaries() -> Path | None:
    """Where Debian keeps the newest server's programs; they are not on the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda p: int(p.parts[4]))
    return found[-1].parent if found else None


class Postgres:
    """A running cluster. `AGENTMAIL_TEST_POSTGRES=postgresql://owner@host/postgres` uses one that runs already."""

    def __init__(
        self, address: str = "127.0.0.1", settings: Sequence[str] | None = None, *, in_memory: bool = False
    ) -> None:
        """`address`: where it listens; any host of its /24 may come in. `settings`: in the place of `FAST`.
        `in_memory`: its files need no disk, where there is room: then a database costs a sixth.
        """
        self.address = address
        self._in_memory = in_memory
        self._settings = settings
        self._names = count(1)
        self._given = os.environ.get("AGENTMAIL_TEST_POSTGRES", "")
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0
        self._strategy = ""

    @staticmethod
    def available() -> bool:
        return bool(os.environ.get("AGENTMAIL_TEST_POSTGRES")) or binaries() is not None

    def start(self) -> None:
        programs = binaries()
        if self._given:
            return
        assert programs is not None
        user = unprivileged()  # PostgreSQL refuses to run as root
        self.directory = d = short_directory("pg", in_memory=self._in_memory)
        if d.parent == MEMORY and int(programs.parts[4]) >= 15:  # a server before that has no other way
            self._strategy = " STRATEGY FILE_COPY"  # slow on a disk, and quicker than by its own log in memory
        if os.getuid() == 0:
            shutil.chown(d, user.pw_name)
        d.chmod(0o700)
        environment = {**os.environ, "HOME": str(d), "LC_ALL": "C.UTF-8", "TZ": "UTC"}
        log = Path(f"{d}.log")
        initdb = spawn(
            [str(programs / "initdb"), "-D", f"{d}/data", "-U", "agentmail", "-A", "trust", "-E", "UTF8",
             "--locale=C.UTF-8", "--no-sync", "--no-instructions"], log, user=user, environment=environment,
        )  # fmt: skip
        if initdb.wait(60) != 0:
            raise RuntimeError(log.read_text(errors="replace")[-2000:])
        with Path(f"{d}/data/pg_hba.conf").open("a") as allowed:
            allowed.write(f"host all all {self.address}/24 trust\n")
        self._port = free_port()
        settings = FAST if self._settings is None else self._settings
        self._command = lambda: spawn(
            [str(programs / "postgres"), "-D", f"{d}/data", "-h", self.address, "-p", str(self._port), "-k", str(d),
             *(word for setting in settings for word in ("-c", setting))], log, user=user, environment=environment,
        )  # fmt: skip
        self._log = log
        self._run()

    def _run(self) -> None:
        programs, log = binaries(), self._log
        assert programs is not None
        self._process = self._command()
        end = time.monotonic() + 30
        ready = [str(programs / "pg_isready"), "-q", "-h", self.address, "-p", str(self._port)]
        while subprocess.run(ready, check=False, capture_output=True).returncode:
            if self._process.poll() is not None or time.monotonic() > end:
                written = log.read_text(errors="replace")[-2000:]
                self.stop()
                raise RuntimeError(f"PostgreSQL did not start\n{written}")
            time.sleep(0.02)

    def crash(self) -> None:
        """What was not written to the disk is gone, as far as a machine that goes on running can show it; and start
        anew. Call `hold_back` before what shall be lost.
        """
        assert self._process is not None
        main = self._process.pid
        children = [pid for pid, (parent, _) in _processes().items() if parent == main]
        for pid in (main, *children):
            os.kill(pid, signal.SIGKILL)
        self._process.wait()
        end = time.monotonic() + 30
        while any(state != "Z" for pid, (_, state) in _processes().items() if pid in children):
            assert time.monotonic() < end, "processes that do not end"
            time.sleep(0.01)
        self._run()

    def hold_back(self) -> None:
        """From now on only a commit that waits for the disk gets there: who writes out the log meanwhile is stopped."""
        pid = int(self.sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'"))
        os.kill(pid, signal.SIGSTOP)

    def stop(self) -> None:
        if self._process is not None:
            stop(self._process, signal.SIGQUIT)  # at once: the data goes too
            shutil.rmtree(self.directory, ignore_errors=True)
            self._log.unlink(missing_ok=True)

    def url(self, database: str = "postgres") -> str:
        if self._given:
            return self._given.rpartition("/")[0] + "/" + database
        return f"postgresql://agentmail@{self.address}:{self._port}/{database}"

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Run a statement as the owner of the cluster; what it returns, without decoration."""
        command = ["psql", "-q", "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", self.url(database), "-c", statement]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{statement}: {done.stderr.strip()}")
        return done.stdout.strip()

    def new_database(self, like: str | None = None) -> str:
        """Make a database, empty or a copy of that at the URL `like`, to which nobody may be connected; its URL."""
        name = f"t{os.getpid()}_{next(self._names)}"
        self._administer(f"CREATE DATABASE {name}" + (f" TEMPLATE {_name(like)}" if like else "") + self._strategy)
        return self.url(name)

    def drop(self, url: str) -> None:
        """Drop a database, whoever is still connected to it."""
        self._administer(f"DROP DATABASE IF EXISTS {_name(url)} WITH (FORCE)")

    def _administer(self, statement: str) -> None:
        """Without psql, which takes longer to start than most statements to run: every test of the store needs two."""

        async def run() -> None:
            connection = await asyncpg.connect(self.url())
            try:
                await connection.execute(statement)
            finally:
                await connection.close()

        run_apart(run())


def _processes() -> dict[int, tuple[int, str]]:
    """Process -> its parent, and its state as Linux tells it."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
        except (OSError, ValueError):  # it ended meanwhile
            continue
        found[int(path.parent.name)] = int(parent), state
    return found


def _name(url: str) -> str:
    return url.rpartition("/")[2]


def run_apart(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine to its end, also where an event loop runs already."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work).result()
