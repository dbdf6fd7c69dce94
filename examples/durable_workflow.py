"""A durable workflow (DBOS, on SQLite) that waits for a mail, is killed while it waits, and goes on.

    pip install 'agentmail-inbox[testing]' dbos
    python examples/durable_workflow.py     # on a mail server inside this process: no account, no key

The bridge is two lines. The workflow waits with `DBOS.recv_async`; the turn that brings the answer wakes it with
`DBOS.send_async`. The thread's id is the workflow's id, so neither side keeps a table. A step may run twice when its
process dies: `key=` makes its mail go once.

The same shape fits Temporal (a signal) and Restate (an awakeable).
"""

import asyncio
import os
import sys
import tempfile
from pathlib import Path

from dbos import DBOS, SetWorkflowID

from agentmail import Inbox
from agentmail.testing import EmbeddedMail, Person

inbox: Inbox


@DBOS.step()
async def write(message: str, text: str, key: str) -> None:
    await inbox.reply(message, text, key=key)


@DBOS.workflow()
async def book(message: str) -> str:
    thread = str(DBOS.workflow_id)
    await write(message, "Gladly. Which day suits you?", f"{thread} question")
    answer = await DBOS.recv_async("mail", timeout_seconds=14 * 24 * 3600)
    while answer is not None and answer["message"] == message:  # the turn that began this ran twice
        answer = await DBOS.recv_async("mail", timeout_seconds=14 * 24 * 3600)
    if answer is None:
        return "nobody answered"
    await write(answer["message"], f"Booked. You wrote: {answer['text']}", f"{thread} confirmation")
    return "booked"


async def bring_mail() -> None:
    """Each turn starts the workflow of its thread, or brings it the answer. Either may happen twice without harm."""
    await inbox.sync()
    async for turn in inbox.turns(wait=False):
        async with turn:
            new, id_ = next((m for m in reversed(turn.new) if m.automated is None), None), turn.thread.id
            if new is None:  # an out-of-office message, or a reminder: nobody answered
                continue
            if await DBOS.get_workflow_status_async(id_) is None:
                with SetWorkflowID(id_):
                    await DBOS.start_workflow_async(book, str(new.id))
            else:
                answer = {"message": str(new.id), "text": new.new_text}
                await DBOS.send_async(id_, answer, "mail", idempotency_key=str(new.id))


async def process(role: str, directory: Path) -> None:
    """One life of the program. The first one is killed while the workflow waits."""
    global inbox
    DBOS(config={
        "name": "agentmail-example", "system_database_url": f"sqlite:///{directory / 'workflows.db'}",
        "run_admin_server": False, "log_level": "ERROR", "application_version": "1", "executor_id": "example",
    })  # fmt: skip
    async with Inbox.from_env() as inbox:
        DBOS.launch()  # workflows that were under way when the last process died go on here
        await bring_mail()
        if role == "first":
            async for event in inbox.events():
                if event.kind == "submission.sent":
                    break
            print("asked; now this process is killed", flush=True)
            os._exit(9)
        result = await (await DBOS.retrieve_workflow_async("t1")).get_result()
        print("the workflow that the first process began:", result)
        DBOS.destroy()


async def life(role: str, mail: EmbeddedMail, directory: str) -> None:
    account = mail.account("agent@demo.local")
    names = ("imap_host", "imap_port", "imap_security", "smtp_host", "smtp_port", "smtp_security")
    settings = {f"AGENTMAIL_{n.upper()}": str(getattr(account, n)) for n in names} | {
        "AGENTMAIL_ADDRESS": account.address, "AGENTMAIL_PASSWORD": "demo",
        "AGENTMAIL_STORE": f"sqlite:///{Path(directory) / 'agentmail.db'}",
    }  # fmt: skip
    program = await asyncio.create_subprocess_exec(
        sys.executable, __file__, role, directory, env={**os.environ, **settings}, cwd=directory
    )
    assert await program.wait() == (9 if role == "first" else 0)


async def main() -> None:
    ana = Person("ana@demo.local", "Ana Ruiz", client="outlook")
    with tempfile.TemporaryDirectory() as directory:
        async with EmbeddedMail({"agent@demo.local": "demo", "ana@demo.local": "demo"}) as mail:
            await mail.deliver("agent@demo.local", ana.write("agent@demo.local", "Kick-off", "Could we meet?"))
            await life("first", mail, directory)
            [question] = await mail.messages("ana@demo.local")
            await mail.deliver("agent@demo.local", ana.reply(question, "Tuesday at ten."))
            await life("second", mail, directory)
            [_, confirmation] = await mail.messages("ana@demo.local")
            assert b"Booked. You wrote: Tuesday at ten." in confirmation


if __name__ == "__main__":
    asyncio.run(main() if len(sys.argv) == 1 else process(sys.argv[1], Path(sys.argv[2])))
