"""Gmail: one message shows up in many mailboxes, has labels, and may be fetched only so often a day.

X-GM-MSGID names a message in all of them, so a stored one is located and not fetched again: Gmail shuts an account out
for a day when 2.5 GB were fetched. The id is taken from the FETCH item only; what a header says is the sender's word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, timedelta

from ..errors import Throttled
from ..imap import Fetched, Gmail, ImapConnection, uid_sets
from ..imap.batches import BATCH
from ..store import Filed, Tx, connections, positions
from .reading import Reading

DAILY = 2 * 10**9
"""Bytes of mail that are fetched from Gmail on a day (UTC). It shuts out at 2.5 GB, and others read the account too."""


class Labelled(Reading):
    """The part of a pass that knows Gmail."""

    async def _known_elsewhere(self, connection: ImapConnection, missing: Sequence[int]) -> list[int]:
        """Ask Gmail's names of what is missing; locate what is stored, leave out drafts, and return the rest."""
        self.said = {}
        if not connection.is_gmail:
            return list(missing)
        flags: dict[int, tuple[str, ...]] = {}
        for some in uid_sets(missing, most=BATCH):
            found = await connection.fetch_labels(some)
            self.said.update({u: f.gmail for u, f in found.items() if f.gmail})
            flags.update({u: tuple(x for x in f.flags or () if x != "\\Recent") for u, f in found.items()})
        async with self.store.reading() as tx:
            known = await connections.by_msgid(tx, self.place.account, {g.msgid for g in self.said.values()})
        here = {u: known[g.msgid] for u, g in self.said.items() if g.msgid in known}
        if here and self.snapshot.uidvalidity:

            async def work(tx: Tx) -> None:
                place = self.place
                await positions.locate(tx, place.account, place.mailbox, self.snapshot.uidvalidity,
                                       {u: (message, flags[u]) for u, message in here.items()})  # fmt: skip
                await connections.save_labels(tx, place.account, {
                    g.msgid: (g.thrid, g.labels, here[u]) for u, g in self.said.items() if u in here})  # fmt: skip

            await self._write(work)
        # All Mail holds drafts too, and each time one is saved it is another message.
        drafts = {u for u, g in self.said.items() if "\\Draft" in g.labels} if self.place.role == "all" else set()
        return [u for u in missing if u not in here and u not in drafts]

    async def _within_the_day(self, connection: ImapConnection) -> None:
        """Throttled when enough was fetched today."""
        if not connection.is_gmail:
            return
        async with self.store.reading() as tx:
            spent = await connections.fetched(tx, self.place.account, self._day())
        if spent >= DAILY:
            now = self.now().astimezone(UTC)
            midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
            raise Throttled(
                f"{self.place.account}: {spent / 1e9:.1f} GB of mail were fetched today, and Gmail shuts an account "
                "out for a day at 2.5 GB; it goes on at midnight UTC", retry_after=(midnight - now).total_seconds(),
            )  # fmt: skip

    async def _note_gmail(
        self, tx: Tx, bodies: Sequence[Fetched], said: Mapping[int, Gmail], filed: Mapping[int, Filed]
    ) -> None:
        """In the transaction that files them: how much was fetched, and what Gmail says of it."""
        if not said:
            return
        await connections.count_fetched(tx, self.place.account, self._day(), sum(len(b.body or b"") for b in bodies))
        await connections.save_labels(tx, self.place.account, {
            g.msgid: (g.thrid, g.labels, int(filed[u].id[1:]))
            for u, g in said.items() if u in filed and filed[u].id.startswith("m")
        })  # fmt: skip

    async def _follow_labels(self, found: Mapping[int, Fetched]) -> None:
        changed = {f.gmail.msgid: (f.gmail.thrid, f.gmail.labels, 0) for f in found.values() if f.gmail is not None}
        if changed:
            await self._write(lambda tx: connections.save_labels(tx, self.place.account, changed, only_known=True))

    def _day(self) -> str:
        return f"{self.now().astimezone(UTC):%Y-%m-%d}"
