"""Small invented mailboxes, full of everything that makes threading hard, for properties over their orders."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from agentmail.message.auth import Auth
from agentmail.message.models import Address, Message

US = "support@our.example"
SPRING = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
PEOPLE = ("ana@customer.example", "carl@customer.example", "bob@gmail.com", "eve@evil.example", "dan@partner.example")
SUBJECTS = ("Invoice 42", "Delivery", "Hi", "Quarterly report")


def message(
    name: str,
    sender: str = "ana@customer.example",
    to: Iterable[str] = (US,),
    *,
    answers: Sequence[str] = (),
    in_reply_to: Sequence[str] | None = None,
    cc: Iterable[str] = (),
    subject: str = "Invoice 42",
    day: float = 0.0,
    text: str | None = None,
    list_id: str = "",
    dmarc: str = "",
    **more: object,
) -> Message:
    """One message; `answers` is the References chain, oldest first, by name. A name without "@" gets one."""
    references = tuple(map(bracket, answers))
    replied = references[-1:] if in_reply_to is None else tuple(map(bracket, in_reply_to))
    return Message.model_validate({
        "message_id": bracket(name), "references": references, "in_reply_to": replied,
        "sender": Address(email=sender), "to": tuple(Address(email=a) for a in to),
        "cc": tuple(Address(email=a) for a in cc), "subject": subject, "sent_at": SPRING + timedelta(days=day),
        "text": name if text is None else text,
        "headers": (("List-Id", f"<{list_id}>"),) if list_id else (),
        "auth": Auth(server="mx", dmarc=dmarc, domain=sender.partition("@")[2]) if dmarc else None,
        **more,
    })  # fmt: skip


def bracket(name: str) -> str:
    if name.startswith("<"):
        return name
    return f"<{name}>" if "@" in name else f"<{name}@id.example>"


@dataclass
class World:
    """Messages, and which of them the account itself sent."""

    messages: list[Message] = field(default_factory=list)
    outgoing: list[bool] = field(default_factory=list)


def world(seed: int, size: int = 12) -> World:
    """A mailbox by number: replies, ghosts, strangers, forgeries, lists, twins, garbage ids and headless answers."""
    rng = random.Random(seed)
    made = World()
    chains: list[tuple[str, ...]] = []
    for n in range(size):
        name = f"m{n}.{seed}"
        ours = rng.random() < 0.25
        sender = US if ours else rng.choice(PEOPLE)
        others = rng.sample(PEOPLE, rng.choice((0, 0, 1, 1, 2)))
        recipients = others or [rng.choice(PEOPLE)] if ours else [US]
        copies = [] if ours else [o for o in others if o != sender]
        answers: list[str] = []
        if chains and rng.random() < 0.7:
            chain = rng.choice(chains)
            kept = rng.choice((len(chain), len(chain), 1, 2))
            answers = list(chain[-kept:])
        if rng.random() < 0.1:
            answers.insert(0, f"ghost{rng.randrange(3)}.{seed}")
        if rng.random() < 0.05:
            answers.append(rng.choice((name, "<y>", f"<{rng.choice(PEOPLE)}>", "<n>")))
        replied: list[str] | None = None
        match rng.randrange(8):
            case 0:
                replied = []
            case 1 if chains:
                replied = [rng.choice(rng.choice(chains))]
            case 2 if len(chains) > 1:
                replied = [rng.choice(chains)[-1], rng.choice(chains)[-1]]
        subject = rng.choice(SUBJECTS)
        if answers or rng.random() < 0.4:
            subject = "Re: " + subject
        own_name = made.messages[rng.randrange(n)].message_id if n and rng.random() < 0.07 else name
        made.messages.append(
            message(
                own_name, sender, recipients, answers=answers, in_reply_to=replied, cc=copies, subject=subject,
                day=rng.choice((n, rng.randrange(70), rng.randrange(10))) + rng.choice((0.0, 0.25)), text=name,
                list_id="team.customer.example" if rng.random() < 0.1 else "",
                dmarc="" if ours else rng.choice(("", "", "", "pass", "fail")),
            )
        )  # fmt: skip
        made.outgoing.append(ours)
        chains.append((*answers, own_name))
    return made
