"""Why a message stands where it stands, worked out from what the store knows now."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from ..message.models import Message
from ..threads.models import Confidence, Match, Rejected, Why
from ..threads.placement import claimed_parent, mentioned, named_in, unknown
from . import holders
from .database import Tx
from .reading import message_of, messages_of, number
from .tables.threads import ALIAS, APART, MESSAGE, THREAD


async def explain(tx: Tx, id: str) -> Why:  # noqa: A002
    """The header or rule that decided, the ids that matched, the threads that were refused, and how sure it is."""
    message = await message_of(tx, id)
    row = (await tx.execute(select(MESSAGE).where(MESSAGE.c.id == number(str(message.id), "m")))).one()
    matched = await _matches(tx, message, row)
    rejected = await _rejected(tx, row)
    _, tree = await messages_of(tx, row.thread)
    parent = tree.get(f"m{row.id}")
    linked = [m for m in matched if m.thread == f"t{row.thread}" and m.role != "own" and m.message != f"m{row.id}"]
    claimed = claimed_parent(message, {r.message_id for r in rejected}) if not any(m.message for m in linked) else None
    found: dict[str, Any] = {"matched": tuple(matched), "rejected": tuple(rejected), "parent": parent}
    if row.thread != row.cluster:
        return Why(rule="subject", confidence="low", note=(
            "no id of it can say what it answers; its subject and its people fit one thread of the 30 days before"
        ), **found)  # fmt: skip
    if row.answers is not None:
        return Why(rule="answers", confidence="certain", note=f"filed as the answer to m{row.answers}", **found)
    if linked:
        by = next((m for m in linked if m.message is not None and m.message == parent), linked[0])
        return Why(rule="ids", confidence=_confidence(message, row, by), note=_note(by), **found)
    if claimed is not None:
        return Why(
            rule="kept apart", confidence="high", claimed_parent=claimed,
            note="its sender is a stranger in the thread it claims to answer in; admit() lets it in", **found,
        )  # fmt: skip
    mentioned_by = await _mentioned_by_others(tx, row)
    if mentioned_by:
        note = "other messages of the thread mention its Message-ID"
        return Why(rule="ids", confidence="high", note=note, **found)
    return Why(rule="new", confidence="certain", note="none of its ids is known here", **found)


async def _matches(tx: Tx, message: Message, row: Any) -> list[Match]:
    roles = mentioned(message)
    keys = named_in(message)
    owners = await _owners(tx, row, list(keys))
    held = await _holding_threads(tx, row.account, list(keys))
    matches = []
    for key, header in keys.items():
        role = "own" if header == "Message-ID" else roles.get(key, "weak")
        for owner, thread in owners.get(key, []):
            if owner != row.id:
                matches.append(
                    Match(message_id=key, header=header, role=role, message=f"m{owner}", thread=f"t{thread}")
                )
        ghost = not owners.get(key)
        if ghost and any(t == row.cluster for t in held.get(key, ())) and await _shared(tx, row, key):
            matches.append(Match(message_id=key, header=header, role=role, thread=f"t{row.thread}"))
    return matches


async def _owners(tx: Tx, row: Any, keys: list[str]) -> dict[str, list[tuple[int, int]]]:
    found: dict[str, list[tuple[int, int]]] = {}
    direct = select(MESSAGE.c.message_id_key, MESSAGE.c.id, MESSAGE.c.thread).where(
        MESSAGE.c.account == row.account, MESSAGE.c.message_id_key.in_(keys)
    )
    known_as = (
        select(ALIAS.c.key, MESSAGE.c.id, MESSAGE.c.thread)
        .join(MESSAGE, MESSAGE.c.id == ALIAS.c.message)
        .where(ALIAS.c.account == row.account, ALIAS.c.key.in_(keys))
    )
    for query in (direct, known_as):
        for key, message, thread in await tx.execute(query.limit(1_000)):
            found.setdefault(key, []).append((message, thread))
    return found


async def _holding_threads(tx: Tx, account: str, keys: list[str]) -> dict[str, set[int]]:
    held = {key: {hold.thread for hold in found} for key, found in (await holders.read(tx, account, keys)).items()}
    threads = {t for some in held.values() for t in some}
    merged = select(THREAD.c.id, THREAD.c.merged_into).where(
        THREAD.c.id.in_(sorted(threads)), THREAD.c.merged_into.is_not(None)
    )
    onward = {row.id: row.merged_into for row in await tx.execute(merged)}
    return {key: {onward.get(t, t) for t in some} for key, some in held.items()}


async def _shared(tx: Tx, row: Any, key: str) -> bool:
    """Whether another message of its cluster mentions the same ghost."""
    query = select(MESSAGE.c.parsed).where(MESSAGE.c.cluster == row.cluster, MESSAGE.c.id != row.id).limit(500)
    return any(key in mentioned(Message.model_validate_json(p)) for (p,) in await tx.execute(query))


async def _mentioned_by_others(tx: Tx, row: Any) -> bool:
    query = select(MESSAGE.c.id).where(MESSAGE.c.cluster == row.cluster, MESSAGE.c.id != row.id).limit(1)
    return (await tx.execute(query)).first() is not None


async def _rejected(tx: Tx, row: Any) -> list[Rejected]:
    query = select(APART.c.target, APART.c.key, APART.c.atom).where(
        APART.c.claimant == row.cluster, APART.c.target != APART.c.claimant  # else: an id that a crowd holds
    )
    missing: dict[tuple[int, str], set[str]] = {}
    for target, key, atom in await tx.execute(query.order_by(APART.c.id).limit(1_000)):
        missing.setdefault((target, key), set()).add(atom)
    return [
        Rejected(thread=f"t{target}", message_id=key, reason=unknown(atoms)) for (target, key), atoms in missing.items()
    ]


def _confidence(message: Message, row: Any, by: Match) -> Confidence:
    if by.message is None:
        return "medium"  # a ghost: others mention it, nobody has seen it
    if row.outgoing or (message.auth is not None and message.auth.verified):
        return "certain"
    return "high" if by.header in {"In-Reply-To", "References"} else "medium"


def _note(by: Match) -> str:
    if by.message is None:
        return f"{by.header} names {by.message_id}, which others in the thread mention too"
    return f"{by.header} names {by.message_id}, which is {by.message}"
