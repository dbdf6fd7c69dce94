"""Copies of this process."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="nothing is forked there")

IGNORED = """
    import os, signal
    from agentmail.forked import Forked

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    def serve(source, answers):
        answers.write(source.read())

    echo, asleep = Forked(serve), Forked(serve)
    echo.stdin.write(b"heard")
    echo.stdin.close()
    assert echo.stdout.read() == b"heard"
    assert echo.wait() == 0
    asleep.kill()
    asleep.wait()
    for child in (echo, asleep):
        assert not os.path.exists(f"/proc/{child.pid}")
"""


def test_where_the_ends_of_children_are_not_told() -> None:
    """Who ignores SIGCHLD hands that on to the programs that it starts."""
    subprocess.run([sys.executable, "-c", textwrap.dedent(IGNORED)], check=True, timeout=60)
