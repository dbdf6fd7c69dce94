"""Life goes on after deleting: nothing leads to what is gone, and no mail is refused because of it."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from sqlalchemy import func, select, text, update

from agentmail.errors import Conflict, NotFound
from agentmail.store import ThreadStore, retention
from agentmail.store.tables.threads import IDENT, THREAD

from ...unit.threads.worlds import PEOPLE, SUBJECTS, US, message

ANA, BOB = PEOPLE[0], "bob@gmail.com"


async def dangling(store: ThreadStore) -> list[tuple[str, int]]:
    """Ids that a thread holds which is not there."""
    async with store.reading() as tx:
        threads = set((await tx.execute(select(THREAD.c.id))).scalars())
        idents = (await tx.execute(select(IDENT.c.key, IDENT.c.holders))).all()
    return [(key, hold[0]) for key, holds in idents if holds for hold in json.loads(holds) if hold[0] not in threads]


async def test_the_ghosts_of_a_thread_go_with_the_rest_of_it(store: ThreadStore) -> None:
    await store.file(message("b", BOB, [US, ANA]), account=US)
    await store.file(message("a", ANA, [US], answers=["b"], day=1), account=US)
    await store.forget(ANA)
    await store.forget(BOB)
    assert await dangling(store) == []
    async with store.reading() as tx:
        assert (await tx.execute(select(func.count()).select_from(IDENT))).scalar_one() == 0
    late = await store.file(message("c", ANA, answers=["a", "b"], day=2), account=US)
    assert (late.thread, await store.quarantined()) == ("t2", [])


async def test_an_id_that_leads_to_no_thread_is_nobodys(store: ThreadStore) -> None:
    """As earlier versions left it behind."""
    first = await store.file(message("a", ANA), account=US)
    nowhere = json.dumps([[999, "own", "*"]])
    async with store.transaction() as tx:
        await tx.execute(update(IDENT).where(IDENT.c.key == "<a@id.example>").values(holders=nowhere))
    answer = await store.file(message("b", ANA, answers=["a"], day=1), account=US)
    assert (answer.thread != first.thread, await store.quarantined(), await dangling(store)) == (True, [], [])


async def test_a_thread_that_is_merged_while_somebody_is_forgotten(
    store: ThreadStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their mail is found where it went, and the old name of the thread still leads there."""
    kept = await store.file(message("a", BOB, [US, ANA]), account=US)
    theirs = await store.file(message("b", ANA, [US, BOB], subject="Other", day=1), account=US)
    original = retention.clusters_of

    async def then_merged(*arguments: Any) -> list[int]:
        found = await original(*arguments)
        await store.file(message("c", BOB, answers=["a", "b"], day=2), account=US)
        return found

    monkeypatch.setattr(retention, "clusters_of", then_merged)
    done = await store.forget(ANA)
    assert done.messages == 1
    thread = await store.thread(theirs.thread)
    assert (thread.id, [m.message_id for m in thread.messages]) == (kept.thread, ["<a@id.example>", "<c@id.example>"])
    assert await dangling(store) == []


SEEDS = [*range(6), *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(6, 60))]


@pytest.mark.parametrize("seed", SEEDS)
async def test_mail_and_deletions_in_any_order(store: ThreadStore, seed: int) -> None:
    rng = random.Random(seed)
    for step in range(70):
        thread, person = f"t{rng.randint(1, 25)}", rng.choice(PEOPLE)
        verb = rng.choices(["file", "delete", "forget", "admit"], [30, 6, 1, 3])[0]
        try:
            if verb == "file":
                answers = [f"n{rng.randint(1, 40)}" for _ in range(rng.choice([0, 0, 1, 1, 2, 3]))]
                mail = message(
                    f"n{rng.randint(1, 40)}", person, [US] if rng.random() < 0.7 else [US, rng.choice(PEOPLE)],
                    answers=answers, subject=rng.choice(SUBJECTS), day=20 * rng.random(), text=f"step {step}",
                )  # fmt: skip
                assert (await store.file(mail, account=US)).thread, await store.quarantined()
            elif verb == "delete":
                await store.delete_thread(thread)
            elif verb == "forget":
                await store.forget(person)
            else:
                await store.admit(thread, person)
        except (NotFound, Conflict):
            continue
    assert await dangling(store) == []
    async with store.reading() as tx:
        for name, question in QUESTIONS.items():
            assert (await tx.execute(text(question))).scalar_one() == 0, name


QUESTIONS = {
    "threads whose count is wrong": "SELECT count(*) FROM thread AS t WHERE merged_into IS NULL "
    "AND t.messages <> (SELECT count(*) FROM message AS m WHERE m.cluster = t.id)",
    "threads without messages": "SELECT count(*) FROM thread AS t WHERE merged_into IS NULL AND attached_to IS NULL "
    "AND NOT EXISTS (SELECT 1 FROM message AS m WHERE m.thread = t.id)",
    "signposts to signposts": "SELECT count(*) FROM thread AS t JOIN thread AS w ON w.id = t.merged_into "
    "WHERE w.merged_into IS NOT NULL",
    "people of threads that are none": "SELECT count(*) FROM person AS p JOIN thread AS t ON t.id = p.thread "
    "WHERE t.merged_into IS NOT NULL",
    "messages that the index does not have, or has too many": "SELECT abs((SELECT count(*) FROM message) "
    "- (SELECT count(*) FROM search))",
}
