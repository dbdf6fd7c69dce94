"""Every program in examples/ runs offline, with no account and no key."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("program", [pytest.param(p, id=p.stem) for p in sorted(EXAMPLES.glob("*.py"))])
async def test_example_runs(program: Path, tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AGENTMAIL_")} | {"PYTHONWARNINGS": "error"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(program), cwd=tmp_path, env=environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(300):
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    assert output.strip(), "an example shows what it does"
