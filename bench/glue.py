"""The usual glue, to compare with: the standard parser, an ORM, one message and one commit at a time.

What most first versions look like: `email.policy.default`, look whether it is there, look for the parent, add, commit,
refresh. SQLite with its defaults.
"""

from __future__ import annotations

import email
import email.policy
import re
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from sqlmodel import Field, Session, SQLModel, create_engine, select


class GlueThread(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    subject: str = ""


class GlueMessage(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    thread_id: int = Field(foreign_key="gluethread.id", index=True)
    message_id: str = Field(index=True)
    subject: str
    sender: str
    recipients: str
    text: str
    raw: bytes


def run(paths: Iterable[Path], database: Path) -> float:
    """Messages a second."""
    engine = create_engine(f"sqlite:///{database}")
    SQLModel.metadata.create_all(engine, tables=[GlueThread.__table__, GlueMessage.__table__])  # type: ignore[attr-defined]
    started, count = time.perf_counter(), 0
    with Session(engine) as session:
        for path in paths:
            raw = path.read_bytes()
            mail = email.message_from_bytes(raw, policy=email.policy.default)
            message_id = str(mail["Message-ID"])
            count += 1
            if session.exec(select(GlueMessage).where(GlueMessage.message_id == message_id)).first():
                continue
            thread = None
            for reference in reversed(re.findall(r"<[^>]+>", f"{mail['References']} {mail['In-Reply-To']}")):
                parent = session.exec(select(GlueMessage).where(GlueMessage.message_id == reference)).first()
                if parent is not None:
                    thread = parent.thread_id
                    break
            if thread is None:
                new = GlueThread(subject=str(mail["Subject"]))
                session.add(new)
                session.commit()
                session.refresh(new)
                assert new.id is not None
                thread = new.id
            body = mail.get_body(("plain", "html"))
            message = GlueMessage(
                thread_id=thread, message_id=message_id, subject=str(mail["Subject"]), sender=str(mail["From"]),
                recipients=str(mail["To"]), text=body.get_content() if body else "", raw=raw,
            )  # fmt: skip
            session.add(message)
            session.commit()
            session.refresh(message)
    return count / (time.perf_counter() - started)


if __name__ == "__main__":
    files = sorted((Path(sys.argv[1]) / "cur").iterdir())[: int(sys.argv[3])]
    print(run(files, Path(sys.argv[2])))
