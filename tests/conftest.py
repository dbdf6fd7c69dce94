"""Fixtures: one line puts a test in front of a real server. Servers start when the first test asks for them."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import settings

from agentmail import teamwork
from agentmail.settings import Account
from agentmail.store import schema
from agentmail.store.database import Database
from agentmail.testing import EmbeddedMail, ManualClock

from .servers.dovecot import Dovecot
from .servers.front import OnDovecot, OnEmbedded, Server
from .servers.postfix import Postfix
from .servers.postgres import Postgres, run_apart
from .servers.process import missing

# A red run must mean a change, so `make test` tries the same examples each time. `make soak` looks for new ones; what
# it finds becomes an `@example` of its test.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None, max_examples=2_000)
settings.load_profile(os.environ.get("AGENTMAIL_TEST_PROPERTIES", "steady"))

# Where this is set, each command that a test starts would compile two hundred modules anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

S = TypeVar("S", Dovecot, Postfix, Postgres)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with a slow test first, and then as they are called: what starts programs and servers comes early, and the
    units, thousands of short ones, last. So nobody is left alone with a long test when the others have nothing to do.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow") is not None}
    items.sort(key=lambda item: item.path not in slow)


def _running(server: S) -> Iterator[S]:
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def dovecot() -> Iterator[Dovecot]:
    """A real Dovecot."""
    if not Dovecot.available():
        missing("Dovecot is not installed: apt-get install dovecot-imapd dovecot-lmtpd")
    yield from _running(Dovecot())


@pytest.fixture(scope="session")
def postfix(dovecot: Dovecot) -> Iterator[Postfix]:
    """A real Postfix in front of that Dovecot."""
    if not Postfix.available():
        missing("Postfix is not installed: apt-get install postfix")
    if not Postfix.allowed():
        missing("Postfix starts as root only")
    yield from _running(Postfix(dovecot))


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real PostgreSQL."""
    if not Postgres.available():
        missing("PostgreSQL is not installed: apt-get install postgresql")
    yield from _running(Postgres(in_memory=True))


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """An empty PostgreSQL database."""
    yield from _dropped(postgres, postgres.new_database())


def _dropped(postgres: Postgres, url: str) -> Iterator[str]:
    yield url
    postgres.drop(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of each kind that no store was ever opened at."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.db'}"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What stores are copied from: the migrations take longer than most tests of them."""
    path = tmp_path_factory.mktemp("migrated") / "store.db"
    run_apart(_migrate(f"sqlite:///{path}"))
    return path


@pytest.fixture(scope="session")
def migrated_postgresql(postgres: Postgres) -> Iterator[str]:
    url = postgres.new_database()
    run_apart(_migrate(url))
    yield from _dropped(postgres, url)


async def _migrate(url: str) -> None:
    db = Database(url)
    try:
        await schema.upgrade(db)
    finally:
        await db.close()


@pytest.fixture
def sqlite_url(migrated_sqlite: Path, tmp_path: Path) -> str:
    """A fresh SQLite database, its schema made already."""
    return f"sqlite:///{shutil.copy(migrated_sqlite, tmp_path / 'store.db')}"


@pytest.fixture
def new_postgresql(postgres: Postgres, migrated_postgresql: str) -> Iterator[str]:
    yield from _dropped(postgres, postgres.new_database(like=migrated_postgresql))


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest) -> str:
    """A fresh database of each kind, its schema made already: every test of the store runs on both."""
    return str(request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "new_postgresql"))


@pytest.fixture
def no_mail_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """An inbox that waits asks no server: what arrives, a test files itself."""

    async def forever(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(teamwork, "watch", forever)


@pytest.fixture
def mail_account(postfix: Postfix) -> Account:
    """A new user on Dovecot, sending through Postfix."""
    return postfix.account(postfix.dovecot.new_user("agent"))


@pytest.fixture
async def embedded() -> AsyncIterator[EmbeddedMail]:
    """The mail server in this process: agent@, billing@ and ana@demo.local, password `demo`."""
    async with EmbeddedMail(
        dict.fromkeys(("agent@demo.local", "billing@demo.local", "ana@demo.local"), "demo")
    ) as mail:
        yield mail


@pytest.fixture(params=["embedded", "dovecot"])
def any_mail_server(request: pytest.FixtureRequest) -> Server:
    """Each mail server in turn; `front = await mail_on(any_mail_server, raw, raw)` puts mail into it."""
    if request.param == "embedded":
        return OnEmbedded(request.getfixturevalue("embedded"))
    return OnDovecot(request.getfixturevalue("dovecot"))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()
