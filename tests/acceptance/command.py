"""The installed `agentmail` command as a process, as a user runs it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from agentmail.settings import Account

COMMAND = Path(sys.executable).with_name("agentmail")
"""The entry point that the installation made, beside the Python that runs the tests."""
STANDING = Path(__file__).with_name("standing")
"""What its Python loads first."""


class Done(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[Any]:
        """What `--json` printed."""
        return [json.loads(line) for line in self.out.splitlines()]


def environment(account: Account | None = None, store: str = "", agent: str = "", **more: str) -> dict[str, str]:
    """Our own environment without agentmail's settings, and with these; warnings of the process are errors.

    On SIGUSR1 and SIGABRT it says where it stands.
    """
    found = {k: v for k, v in os.environ.items() if not k.startswith("AGENTMAIL_")}
    paths = [str(STANDING), *filter(None, [found.get("PYTHONPATH")])]
    found |= {"PYTHONWARNINGS": "error", "PYTHONFAULTHANDLER": "1", "PYTHONPATH": os.pathsep.join(paths)}
    if account is not None:
        plain = account.model_dump(mode="json", exclude_defaults=True, exclude={"password", "provider"})
        found |= {f"AGENTMAIL_{k.upper()}": v if isinstance(v, str) else json.dumps(v) for k, v in plain.items()}
        if account.password is not None:
            found["AGENTMAIL_PASSWORD"] = account.password.get_secret_value()
    given = {"AGENTMAIL_STORE": store, "AGENTMAIL_AGENT": agent, **more}
    return found | {k: v for k, v in given.items() if v}


async def start(
    *words: str, env: Mapping[str, str], cwd: Path, program: tuple[str, ...] = ()
) -> asyncio.subprocess.Process:
    """Start the command (or another program), with pipes on both of its outputs and nothing to read."""
    first, *rest = (*program, *words) if program else (str(COMMAND), *words)
    return await asyncio.create_subprocess_exec(
        first, *rest, env=dict(env), cwd=cwd, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def finish(process: asyncio.subprocess.Process, seconds: float = 60) -> Done:
    try:
        async with asyncio.timeout(seconds):
            out, err = await process.communicate()
    except TimeoutError:
        stands = await _where_it_stands(process)
        raise AssertionError(f"it did not end within {seconds:.0f} s:\n{stands}") from None
    assert process.returncode is not None
    return Done(process.returncode, out.decode(), err.decode())


async def _where_it_stands(process: asyncio.subprocess.Process) -> str:
    """End it, and what it says of its tasks and threads; of its threads alone where no Python runs in it any more."""
    stands = f"it ended with {process.returncode}, and somebody else holds its output open"
    assert process.stderr is not None
    for number in (signal.SIGUSR1, signal.SIGABRT):
        with suppress(ProcessLookupError):
            process.send_signal(number)
        with suppress(TimeoutError):
            async with asyncio.timeout(10):
                stands = (await process.stderr.read()).decode(errors="replace")
                break
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()
    return stands


async def agentmail(*words: str, env: Mapping[str, str], cwd: Path, seconds: float = 60) -> Done:
    return await finish(await start(*words, env=env, cwd=cwd), seconds)


async def python(program: str, *words: str, env: Mapping[str, str], cwd: Path, seconds: float = 60) -> Done:
    """Run a program of a user of the library."""
    process = await start(*words, env=env, cwd=cwd, program=(sys.executable, "-c", program))
    return await finish(process, seconds)
