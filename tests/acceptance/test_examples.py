"""Every program in examples/ runs offline, with no account and no key."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from agentmail import Inbox, Turn
from agentmail.testing import EmbeddedMail, Person

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


def imported(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def test_a_graph_whose_process_dies_before_its_turn_ends_is_not_given_the_question_as_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = imported("langgraph_interrupt")
    ana, agent = Person("ana@demo.local", "Ana Ruiz", client="gmail"), "agent@demo.local"

    async def die(*_: object, **__: object) -> None:
        raise ZeroDivisionError("the process dies here")

    async with EmbeddedMail({agent: "demo", ana.address: "demo"}) as mail:
        await mail.deliver(agent, ana.write(agent, "Kick-off", "Could we meet?"))
        store = f"sqlite:///{tmp_path / 'store.db'}"
        async with Inbox(mail.account(agent), store=store, agent="booking") as inbox:
            for said in ("Tuesday at ten.", None):
                await inbox.sync()
                with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
                    patch.setattr(Turn, "reply", die)
                    async with inbox.claim("t1") as turn:
                        await example.handle(turn, tmp_path / "checkpoints.db")
                async with inbox.claim("t1") as turn:
                    await example.handle(turn, tmp_path / "checkpoints.db")
                received = await mail.messages(ana.address)
                if said is not None:
                    away = b"Auto-Submitted: auto-replied\r\n" + ana.reply(received[-1], "I am away.")
                    await mail.deliver(agent, away)
                    await inbox.sync()
                    async with inbox.claim("t1") as turn:  # which is no answer
                        await example.handle(turn, tmp_path / "checkpoints.db")
                    await mail.deliver(agent, ana.reply(received[-1], said))
        assert len(received) == 2
        assert b"Which day suits you?" in received[0]
        assert b"Booked. You wrote: Tuesday at ten." in received[1]
