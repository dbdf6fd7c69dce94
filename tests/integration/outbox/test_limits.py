"""When nothing may leave for a while: a limit, a refused login, the kill switch; and how each of them ends."""

from __future__ import annotations

import pytest

from agentmail.errors import Throttled

from .conftest import Bench


async def test_going_too_fast_rests_the_account_for_a_minute(bench: Bench) -> None:
    """A service that takes one mail a second says so each second."""
    bench.server.script["dot"] = "454 Throttling failure: Maximum sending rate exceeded."
    with pytest.raises(Throttled):
        await bench.box.submit(bench.mail())
    bench.server.script.clear()
    await bench.clock.advance(30)
    assert [] == await bench.box.deliver_due()
    await bench.clock.advance(31)
    assert ["sent"] == [s.state for s in await bench.box.deliver_due()]


async def test_a_limit_that_the_second_recipient_met_fails_nobody(bench: Bench) -> None:
    limit = "550 5.4.5 Daily user sending limit exceeded"
    bench.server.script["rcpt"] = lambda line: limit if "bob" in line else "250 2.1.5 ok"
    with pytest.raises(Throttled):
        await bench.box.submit(bench.mail("ana@test.local", "bob@test.local"))
    bench.server.script.clear()
    assert ["sent", "pending"] == [r.state for r in (await bench.box.list())[0].recipients]
    await bench.clock.advance(4 * 3600 + 1)
    assert ["sent"] == [s.state for s in await bench.box.deliver_due()]
    assert [["ana@test.local"], ["bob@test.local"]] == [to for _, to, _ in bench.server.taken]
