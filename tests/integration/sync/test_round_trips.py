"""What one new message costs: commands and round trips, which can be counted where time cannot be promised."""

from __future__ import annotations

import pytest

from agentmail.imap.wire import Wire

from .conftest import World, ids
from .test_watch import Heard, idles, until, watching


async def test_one_command_brings_one_message(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """DONE, one FETCH that finds it and has its body, IDLE again. No EXAMINE, no SEARCH, no second FETCH."""
    said: list[str] = []
    send = Wire.send

    def heard_by_server(wire: Wire, data: bytes) -> None:
        said.append(data.decode("ascii", "replace").partition(" ")[2].strip())
        send(wire, data)

    sync, heard = world.sync(), Heard()
    async with watching(sync, heard):
        await until(lambda: idles(sync))
        monkeypatch.setattr(Wire, "send", heard_by_server)
        for n in (1, 2):
            said.clear()
            world.deliver(n)
            await heard.until(n)
            await until(lambda: idles(sync))
            fetch, idle = said
            assert fetch.startswith("UID FETCH")
            assert "BODY.PEEK[]<0." in fetch
            assert "IDLE" == idle
    assert ids(1, 2) == await world.stored()


async def test_a_big_message_among_news_is_fetched_on_its_own(world: World) -> None:
    sync, heard = world.sync(), Heard()
    async with watching(sync, heard):
        await until(lambda: idles(sync))
        world.deliver(1, body="x" * 70 + "\r\n" + ("y" * 70 + "\r\n") * 3000)
        await heard.until(1)
    sizes = await world.rows("SELECT size FROM message")
    assert 200_000 < int(str(sizes[0][0]))
