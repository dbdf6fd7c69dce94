"""The thread behind an Inbox for programs without a loop."""

from __future__ import annotations

import signal
import sys
import textwrap
from contextlib import nullcontext
from pathlib import Path

import pytest

from agentmail.blocking import Portal
from tests.acceptance.command import environment, finish, start

UNHEARD = """
    import asyncio, signal, sys, threading
    from contextlib import nullcontext
    from agentmail.blocking import Portal

    async def interrupted():
        main = threading.main_thread().ident
        while sys._current_frames()[main].f_code.co_name != "wait":
            await asyncio.sleep(0)
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)  # this thread's: it wakes no other one
        await asyncio.Event().wait()

    portal = Portal()
    portal.start(nullcontext)
    try:
        portal.call(interrupted)
    finally:
        portal.stop()
"""


async def test_ctrl_c_that_wakes_nobody_is_heard(tmp_path: Path) -> None:
    """As one that comes in the moment before the main thread begins to wait: nothing would ever wake it."""
    program = (sys.executable, "-c", textwrap.dedent(UNHEARD))
    done = await finish(await start(env=environment(), cwd=tmp_path, program=program))
    assert done.code == -signal.SIGINT
    assert done.err.rstrip().endswith("KeyboardInterrupt"), done.err


def test_a_call_that_times_out_by_itself_says_so() -> None:
    async def slow() -> None:
        raise TimeoutError("mine")

    portal = Portal()
    portal.start(nullcontext)
    with pytest.raises(TimeoutError, match="mine"):
        portal.call(slow)
    portal.stop()
