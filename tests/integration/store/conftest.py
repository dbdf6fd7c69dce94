"""A store of each kind, open."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from agentmail.store import ThreadStore

from ...unit.threads.worlds import US


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[ThreadStore]:
    async with ThreadStore(store_url) as opened:
        await opened.register(US)
        yield opened
