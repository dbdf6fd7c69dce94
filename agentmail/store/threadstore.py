"""The store itself: what its parts do, behind one object."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from ..errors import BadInput, NotFound
from ..message.domains import address_key
from ..message.models import Attachment, Message
from ..threads.models import Filed, Thread, Why
from ..threads.placement import Hold, facts_of, key_of
from . import (
    attention,
    belonging,
    claims,
    editing,
    explaining,
    pages,
    positions,
    quarantine,
    reading,
    retention,
    search,
    timers,
    wanting,
)
from .arrivals import Arrival, Location, Prepared, prepare
from .changes import announce
from .claims import Claim
from .database import Tx
from .events import append_event
from .filing import Filing
from .opening import OpenedStore
from .retention import Deleted, StoreSize
from .rewritten import original_of
from .savepoint import savepoint
from .search import Hit
from .tables.threads import ACCOUNT, ALIAS, MESSAGE, THREAD
from .together import Together


class Owner(Protocol):
    """What filing needs to know of an `agentmail.Account`."""

    @property
    def key(self) -> str: ...

    @property
    def own_addresses(self) -> frozenset[str]: ...


class ThreadStore(OpenedStore):
    """The thread store at a database URL: `sqlite:///agentmail.db` or `postgresql://user@host/database`.

    Building it opens nothing. `async with` opens it; so does the first use. Opening creates or upgrades the schema.

    Raises (when it opens):
        ConfigurationError: the URL means no database that we support.
        StoreUnreachable: no connection, or no right to it.
        StoreTooNew: a newer agentmail wrote it.
        StoreError: the database is another program's, or the file is none.
    """

    def __init__(self, url: str, *, clock: Callable[[], datetime] | None = None) -> None:
        super().__init__(url, clock=clock)
        self._finishing = Together(self._finish_turns)

    # ---- filing -----------------------------------------------------------------------------------------------------

    async def register(self, account: str, own: Collection[str] = ()) -> None:
        """Say which addresses are this account's own; `account` (its address, lower case) always is."""
        await self.open()
        addresses = sorted({account, *map(address_key, own)})
        if self._own.get(account) == frozenset(addresses):
            return

        async def work(tx: Tx) -> None:
            dialect = sqlite if self.db.sqlite else postgresql
            statement = dialect.insert(ACCOUNT).values(key=account, own=addresses)
            statement = statement.on_conflict_do_update(index_elements=["key"], set_={"own": statement.excluded.own})
            await tx.execute(statement)

        await self.db.run(work)
        self._own[account] = frozenset(addresses)

    def own_addresses(self, account: str) -> frozenset[str]:
        """The addresses that count as this account itself."""
        return self._own.get(account, frozenset({account} if account else ()))

    async def file(
        self, message: Message, *, account: str | Owner | None = None, raw: bytes | None = None,
        location: Location | None = None, fresh: bool = True, outgoing: bool = False, answers: str | None = None,
    ) -> Filed:  # fmt: skip
        """Put one message into its thread. Filing the same message again changes nothing.

        Args:
            account: The account that received it, or its address; None for an archive: then it joins by its
                ids alone, without the guard against strangers.
            raw: Its bytes; without them it has no attachments to open later.
            fresh: False for history: no agent will be asked to look at it.
        """
        await self.open()
        if account is not None and not isinstance(account, str):
            await self.register(account.key, account.own_addresses)
            account = account.key
        account = address_key(account) if account else None
        arrival = Arrival(message, raw, location, fresh=fresh, outgoing=outgoing, answers=answers)
        prepared = self.prepare([arrival], account=account)
        return (await self.db.run(lambda tx: self.file_batch(tx, prepared, account=account)))[0]

    def prepare(self, arrivals: Iterable[Arrival], *, account: str | None) -> list[Prepared]:
        """Do the part of filing that needs no database, so that the transaction is short. The store must be open."""
        own = self.own_addresses(account or "")
        return [prepare(a, account=account or "", own=own, secret=self.secret) for a in arrivals]

    async def file_batch(self, tx: Tx, arrivals: Sequence[Arrival | Prepared], *, account: str | None) -> list[Filed]:
        """File many messages in the caller's transaction, so that what the caller writes commits with them.

        Run it by `store.db.run(work)`: on PostgreSQL two batches that meet may have to start again, and `run` does.
        """
        await self._learn_own(tx, account or "")
        results: list[Filed | None] = [None] * len(arrivals)
        batch: list[tuple[int, Prepared]] = []
        for i, arrival in enumerate(arrivals):
            if isinstance(arrival, Prepared):
                batch.append((i, arrival))
                continue
            try:
                batch.append((i, self.prepare([arrival], account=account)[0]))
            except quarantine.REFUSED as exc:
                results[i] = await quarantine.keep(tx, account or "", arrival, exc, now=self._now())
        for (i, _), filed in zip(batch, await self._file(tx, [p for _, p in batch], account or ""), strict=True):
            results[i] = filed
        if account:
            await attention.after_filing(tx, account, [(p, results[i]) for i, p in batch], now=self._now())
        return [filed for filed in results if filed is not None]

    async def _file(self, tx: Tx, batch: list[Prepared], account: str) -> list[Filed]:
        """File a batch; when the database refuses it, find the row that is to blame and put that aside."""
        try:
            async with savepoint(tx):
                return await self._filing(tx, account, batch).run()
        except quarantine.REFUSED as exc:
            if not quarantine.is_refusal(exc):
                raise
            if len(batch) == 1:
                return [await quarantine.keep(tx, account, batch[0].arrival, exc, now=self._now())]
        half = len(batch) // 2
        return [*await self._file(tx, batch[:half], account), *await self._file(tx, batch[half:], account)]

    def _filing(self, tx: Tx, account: str, batch: Sequence[Prepared] = ()) -> Filing:
        return Filing(tx, account, batch, own=self.own_addresses(account), now=self._now())

    async def _learn_own(self, tx: Tx, account: str) -> None:
        if account and account not in self._own:
            row = (await tx.execute(select(ACCOUNT.c.own).where(ACCOUNT.c.key == account))).one_or_none()
            self._own[account] = frozenset(row.own if row is not None else [account])

    async def alias(self, tx: Tx, message: int | str, message_id: str) -> None:
        """Say that a message is also known as `message_id`: what a provider made of it on the way out.

        Replies to either id find its thread; what was kept under the other id is joined now.
        """
        db_id = message if isinstance(message, int) else reading.number(message, "m")
        row = (await tx.execute(select(MESSAGE).where(MESSAGE.c.id == db_id))).one_or_none()
        if row is None:
            raise NotFound(f"there is no message m{db_id} in this store")
        await self._learn_own(tx, row.account)
        key = key_of(message_id)
        dialect = sqlite if self.db.sqlite else postgresql
        statement = dialect.insert(ALIAS).values(account=row.account, key=key, message=db_id, message_id=message_id)
        await tx.execute(statement.on_conflict_do_nothing())
        facts = facts_of(
            Message.model_validate_json(row.parsed), guarded=bool(row.account),
            own=self.own_addresses(row.account), outgoing=row.outgoing,
        )  # fmt: skip
        _, voucher = facts.holds[row.message_id_key]
        hold = Hold(row.cluster, "own", voucher)
        await self._filing(tx, row.account).regard(row.cluster, owns=hold, key=key)
        await announce(tx)

    async def recognise(self, tx: Tx, prepared: Prepared, *, account: str) -> Filed | None:
        """Our own mail that a provider gave another Message-ID: the stored message, known by both ids from now on.

        None when it is no copy of ours; then it is to be filed. For mail out of the Sent mailbox only.
        """
        found = await original_of(tx, prepared, self.secret)
        if found is None:
            return None
        message, thread = found
        if prepared.arrival.message.message_id:
            await self.alias(tx, message, prepared.arrival.message.message_id)
            thread = (await tx.execute(select(MESSAGE.c.thread).where(MESSAGE.c.id == message))).scalar_one()
        if (at := prepared.arrival.location) is not None:
            await positions.locate(tx, account, at.mailbox, at.uidvalidity,
                                   {at.uid: (message, prepared.arrival.flags)})  # fmt: skip
        why = Why(rule="duplicate", confidence="certain", note="our own mail, under the id that the provider gave it")
        return Filed(id=f"m{message}", thread=f"t{thread}", new=False, absorbed=(), why=why)

    async def admit(self, id: str, address: str) -> str:  # noqa: A002
        """Let somebody into a thread that does not know them; what was kept apart because of it joins now.

        Returns:
            The id of the thread, after what joined.
        """
        await self.open()

        async def work(tx: Tx) -> str:
            thread = await reading.resolve(tx, id)
            account = (await tx.execute(select(THREAD.c.account).where(THREAD.c.id == thread))).scalar_one()
            await self._learn_own(tx, account)
            await append_event(
                tx, "thread.admitted", thread=thread, account=account, data={"address": address}, at=self._now()
            )
            return f"t{await self._filing(tx, account).regard(thread, knows=[address_key(address)])}"

        return await self.db.run(work)

    async def quarantined(self, *, account: str | None = None, limit: int = 100) -> list[quarantine.Quarantined]:
        """Mail that could not be filed, oldest first, with the reason."""
        async with self.reading() as tx:
            return await quarantine.listed(tx, account=account, limit=limit)

    async def put_aside(self, tx: Tx, arrival: Arrival, reason: BaseException, *, account: str | None) -> Filed:
        """Put a mail aside that cannot even be prepared, so that its mailbox goes on."""
        return await quarantine.keep(tx, account or "", arrival, reason, now=self._now())

    async def retry_quarantined(self, id: str) -> Filed:  # noqa: A002
        """Parse and file a quarantined mail again. When it fails again, it stays, with one attempt more."""
        await self.open()

        async def work(tx: Tx) -> Filed:
            account, arrival, attempts = await quarantine.taken_out(tx, id)
            filed = (await self.file_batch(tx, [arrival], account=account))[0]
            if filed.why.rule == "quarantined":
                await quarantine.count_attempts(tx, filed.id, attempts + 1)
            return filed

        return await self.db.run(work)

    # ---- what agents keep with a thread -----------------------------------------------------------------------------

    async def set_status(self, id: str, status: str) -> None:  # noqa: A002
        """Set a thread's status: `open`, `done`, or a word of your own."""
        await self.open()
        await self.db.run(lambda tx: editing.set_status(tx, id, status, at=self._now()))

    async def set_labels(self, id: str, *, add: Collection[str] = (), remove: Collection[str] = ()) -> tuple[str, ...]:  # noqa: A002
        """Add and remove labels; the labels it has now."""
        await self.open()
        return await self.db.run(lambda tx: editing.set_labels(tx, id, add=add, remove=remove, at=self._now()))

    async def add_note(self, id: str, text: str, *, agent: str = "") -> None:  # noqa: A002
        """Leave a note for the other agents; it is never mailed."""
        await self.open()
        await self.db.run(lambda tx: editing.add_note(tx, id, text, agent=agent, at=self._now()))

    async def put_data(self, id: str, values: Mapping[str, Any]) -> dict[str, Any]:  # noqa: A002
        """Set keys of the thread's own JSON object (None removes one); the whole object afterwards."""
        await self.open()
        return await self.db.run(lambda tx: editing.put_data(tx, id, values, at=self._now()))

    async def settle(self, id: str) -> None:  # noqa: A002
        """A person took care of a thread: nobody needs to look at it until new mail comes.

        Whoever holds it at this moment is fenced out, and follow-ups of agents are dropped.
        """
        await self.open()

        async def work(tx: Tx) -> None:
            thread = await reading.resolve(tx, id)
            await timers.cancel(tx, [thread], kind="follow-up")
            await wanting.answered_by_hand(tx, [thread])
            await announce(tx)

        await self.db.run(work)

    # ---- turns ------------------------------------------------------------------------------------------------------

    async def finish_turn(self, claim: Claim) -> None:
        """A turn is done and left nothing else to write. Those that end while one is written share a transaction.

        Raises:
            StaleTurn: the claim was lost.
        """
        if not await self._finishing(claim):
            raise claims.lost(claim)

    async def _finish_turns(self, ended: Sequence[Claim]) -> list[bool]:
        async def work(tx: Tx) -> dict[int, str]:
            states = await claims.finish_all(tx, ended)
            if "ready" in states.values():
                await announce(tx)  # there is more to do
            return states

        states = await self.db.run_alone(work)
        return [claim.thread in states for claim in ended]

    # ---- reading ----------------------------------------------------------------------------------------------------

    async def thread(self, id: str) -> Thread:  # noqa: A002
        """One thread with all its messages, oldest first. The id of a merged thread leads to where it went."""
        async with self.reading(snapshot=True) as tx:
            return await reading.thread_of(tx, id)

    async def threads(
        self, status: str | None = None, limit: int = 20, after: str | None = None, *, account: str | None = None,
        assigned: str | None = None, stuck: bool = False,
    ) -> list[Thread]:  # fmt: skip
        """A page of threads by last activity, newest first, without messages. `after`: last id of the page before.

        Args:
            assigned: Only what waits for this agent, or for `"human"`.
            stuck: Only what no agent tries any more: too many turns on it failed.
        """
        async with self.reading(snapshot=True) as tx:
            return await reading.page_of_threads(
                tx, status=status, account=account, limit=limit, after=after, assigned=assigned, stuck=stuck
            )

    async def messages(
        self, thread: str | None = None, limit: int = 20, after: str | None = None, *, account: str | None = None
    ) -> list[Message]:
        """A page of messages by time, newest first: of one thread, or of all. `after`: the last id of the page before.

        For threads of any length; `thread(id)` reads all of one.
        """
        async with self.reading(snapshot=True) as tx:
            return await pages.page_of_messages(tx, thread=thread, account=account, limit=limit, after=after)

    async def assign(self, id: str, agent: str, *, note: str = "", by: str = "human") -> None:  # noqa: A002
        """Give a thread to an agent, or to `"human"`: it comes to them as a turn with the reason `handoff`.

        Whoever holds it at this moment is fenced out.
        """
        if not agent or not agent.isprintable():
            raise BadInput("assign needs the name of an agent, or 'human'")
        await self.open()

        async def work(tx: Tx) -> None:
            thread = await reading.resolve(tx, id)
            account = (await tx.execute(select(THREAD.c.account).where(THREAD.c.id == thread))).scalar_one()
            await editing.add_note(tx, f"t{thread}", note, agent=by, to=agent, at=self._now())
            await belonging.assign(tx, thread, account=account, agent=agent)
            await append_event(
                tx, "thread.assigned", thread=thread, account=account, data={"agent": agent, "by": by}, at=self._now()
            )

        await self.db.run(work)

    async def search(
        self, q: str, limit: int = 20, after: str | None = None, *, account: str | None = None
    ) -> list[Hit]:
        """Messages by their words, newest first. `after`: the last id of the page before.

        Words are all looked for, wherever they stand; `"a phrase"`, `-word`, `word*`, `from: to: subject: label:
        has:attachment before: after:`. Case and accents make no difference.

        Raises:
            BadInput: the query asks for nothing, or a date in it is none. No text is a syntax error.
        """
        async with self.reading(snapshot=True) as tx:
            return await search.find(tx, q, limit=limit, after=after, account=account)

    async def message(self, id: str, account: str | None = None) -> Message:  # noqa: A002
        """One message, by our id (`"m45"`) or by its Message-ID (the first one filed, when several carry it)."""
        await self.open()
        if account is None and (found := await reading.glanced(self.db, id)) is not None:
            return found
        async with self.reading() as tx:
            return await reading.message_of(tx, id, account)

    async def raw(self, id: str) -> bytes:  # noqa: A002
        """The bytes of a message as they came."""
        async with self.reading() as tx:
            return await reading.raw_of(tx, id)

    async def attachment(self, id: str) -> Attachment:  # noqa: A002
        """One attachment (`"a7"`) with its content."""
        async with self.reading() as tx:
            return await reading.attachment_of(tx, id)

    async def ancestors(self, id: str) -> list[Message]:  # noqa: A002
        """The messages that this one answers, directly or not, oldest first."""
        async with self.reading(snapshot=True) as tx:
            return await reading.ancestors_of(tx, id)

    async def explain(self, id: str) -> Why:  # noqa: A002
        """Why a message stands in its thread: the header or rule, what matched, what was refused, how sure it is."""
        async with self.reading(snapshot=True) as tx:
            return await explaining.explain(tx, id)

    # ---- retention --------------------------------------------------------------------------------------------------

    async def delete_thread(self, id: str) -> Deleted:  # noqa: A002
        """Delete a thread and its messages for good. The mail server is not touched.

        Raises:
            NotFound: there is none.
            Conflict: something in it waits to be sent, or may have been sent.
        """
        await self.open()
        return await self.db.run(lambda tx: retention.delete_thread(tx, id, now=self._now()))

    async def forget(self, address: str) -> Deleted:
        """Delete everything of a person for good: what they wrote, and what was written to them alone.

        Ids of deleted messages stay as ghosts, so that the rest of a thread stays together. Messages of others that
        still name the address are listed, not changed. `vacuum` afterwards, or the bytes stay in the file.

        Raises:
            BadInput: not an address.
            Conflict: something waits to be sent to them. What was deleted before that stays deleted.
        """
        address = retention.checked_address(address)
        await self.open()
        async with self.db.read() as tx:
            clusters = await retention.clusters_of(tx, address)
        done = Deleted()
        for cluster in clusters:  # a transaction each, so that no writer waits long
            done = retention.add_up(done, await self.db.run(self._forgetting(cluster, address)))
        return retention.add_up(done, await self.db.run(lambda tx: retention.forget_elsewhere(tx, address)))

    def _forgetting(self, cluster: int, address: str) -> Callable[[Tx], Awaitable[Deleted]]:
        return lambda tx: retention.forget_in(tx, cluster, address, now=self._now())

    async def size(self) -> StoreSize:
        """What the store holds, by account, and how large it is. Reads every row it counts."""
        async with self.reading() as tx:
            return await retention.size(tx)

    async def vacuum(self) -> None:
        """Give unused space back. What was deleted is gone from the database's files only afterwards."""
        await self.open()
        await retention.vacuum(self.db)
