"""What people and programs do with submissions: look, approve, deny, edit, cancel, retry, resolve, pause, grant."""

from __future__ import annotations

import html as html_module
from collections.abc import Callable
from datetime import datetime
from typing import Any

from .errors import BadInput
from .message import citing, compose
from .message.domains import address_key
from .message.models import Address, Draft, Message
from .message.parse import parse
from .outbox import Outbox
from .policy import Policy
from .sent import Sent, State
from .settings import Account
from .store import ThreadStore


class Deciding:
    """Mixed into Inbox, which owns everything used here."""

    account: Account
    store: ThreadStore
    policy: Policy
    _outbox: Outbox
    _clock: Callable[[], datetime]

    async def outbox(self, *states: State, limit: int = 50) -> list[Sent]:
        """Submissions, newest first: all, or those in these states."""
        return await self._outbox.list(*states, limit=limit)

    async def submission(self, id: str) -> Sent:  # noqa: A002
        """A submission as it stands now (`"o3"`)."""
        return await self._outbox.get(id)

    async def submission_raw(self, id: str) -> bytes:  # noqa: A002
        """The frozen bytes of a submission: what goes, or went, over the wire."""
        return await self._outbox.raw(id)

    async def fingerprint(self, id: str) -> str:  # noqa: A002
        """Of a submission's bytes and envelope: give it to `approve` to bind the approval to what was shown."""
        return await self._outbox.fingerprint(id)

    async def approve(self, id: str, *, by: str, fingerprint: str | None = None) -> Sent:  # noqa: A002
        """Let a held submission go, exactly as it is, and try it once. Conflict: it changed, or is not held."""
        await self._outbox.approve(id, by=by, fingerprint=fingerprint)
        return await self._outbox.deliver(id)

    async def deny(self, id: str, *, by: str, reason: str = "") -> Sent:  # noqa: A002
        """Never send a held submission; its agent hears of it."""
        return await self._outbox.deny(id, by=by, reason=reason)

    async def edit(self, id: str, text: str | None = None, *, html: str | None = None, by: str) -> Sent:  # noqa: A002
        """Replace what a held submission says, and let that go: same people, subject, thread, attachments and time, and
        what it quotes or forwards; a Message-ID of its own. What was held becomes `canceled`, and no approval of it
        counts any more; the new submission is given back.

        Raises:
            Conflict: it is not held (any more).
            BadInput: there is nothing to say, or nobody decides.
        """
        raw = await self._outbox.raw(id)
        held, answered = await self._outbox.get(id), await self._outbox.answered(id)
        before, rcpt_to = parse(raw), [r.address for r in held.recipients]
        fixed: dict[str, Any] = {
            "sender": Address(name=self.account.name, email=self.account.address), "footer": self.policy.footer,
            "automatic": self.policy.mark_automatic, "secret": self.store.secret, "now": self._clock(),
        }  # fmt: skip
        if answered is not None and held.kind == "reply":
            outgoing = compose.reply(
                answered, text, html=html, to=before.to, cc=before.cc, attachments=before.attachments,
                quote=_quotes(before.text, answered) and not _quotes(text or html or "", answered),
                own_addresses=self.account.own_addresses, ancestors=await self.store.ancestors(str(answered.id)),
                **fixed,
            )  # fmt: skip
        elif answered is not None and held.kind == "forward":
            if not (text or html or "").strip():
                raise BadInput("there is nothing to send: give text= or html=")
            outgoing = compose.forward(
                answered, to=before.to, cc=before.cc, text=text or "", html=html,
                original_raw=await self.store.raw(str(answered.id)), **fixed,
            )  # fmt: skip
        else:
            in_headers = {a.key for a in before.recipients} | {self.account.key}
            hidden = tuple(Address(email=a) for a in rcpt_to if address_key(a) not in in_headers)
            draft = Draft(
                to=before.to, cc=before.cc, bcc=hidden, subject=before.subject, text=text, html=html,
                attachments=before.attachments,
            )  # fmt: skip
            outgoing = compose.new(draft, **fixed)
        edited = await self._outbox.edit(id, outgoing, by=by)
        return await self._outbox.deliver(edited.id)

    async def cancel(self, id: str, *, by: str = "") -> Sent:  # noqa: A002
        """Stop a submission that did not go yet. Raises Conflict when it is too late."""
        return await self._outbox.cancel(id, by=by)

    async def retry(self, id: str, *, by: str = "") -> Sent:  # noqa: A002
        """Try a failed or waiting submission again, now. Raises OutcomeUnknown when it may have been sent."""
        await self._outbox.retry(id, by=by)
        return await self._outbox.deliver(id)

    async def resolve(self, id: str, *, sent: bool, by: str) -> Sent:  # noqa: A002
        """Say what became of an unknown submission: it was sent, or it was not and goes again with the same id."""
        return await self._outbox.resolve(id, sent=sent, by=by)

    async def pause(self, *, by: str, reason: str, every: bool = False) -> None:
        """The kill switch: nothing of this account that is not on its way yet leaves; with `every`, of no account."""
        await self._outbox.pause(by=by, reason=reason, every=every)

    async def resume(self, *, by: str, every: bool = False) -> bool:
        """Lift the pauses; whether there was one."""
        return await self._outbox.resume(by=by, every=every)

    async def paused(self) -> tuple[tuple[str, str], ...]:
        """(cause, reason) of everything that keeps this account's mail back now: `operator`, `login`, `limit` …"""
        return await self._outbox.paused()

    async def grant(self, address: str, *, reason: str = "") -> None:
        """Vouch for an address, so that tools may write to it. For what a trusted person typed, never from a tool."""
        await self._outbox.grant(address, reason=reason)


def _quotes(text: str, original: Message) -> bool:
    """Whether the original stands below, as `compose.reply(quote=True)` puts it there."""
    line = citing.attribution(original.sender, original.sent_at)
    return line in text or html_module.escape(line) in text
