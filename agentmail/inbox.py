"""Inbox: the one object that every surface holds. It receives, answers in the thread, and reads the shared store.

It adds no logic of its own: `mailsync` brings mail in, `message.compose` builds what goes out, `outbox` sends it,
`store` remembers. What happens between them, and in which transaction, is written here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakSet

from .deciding import Deciding
from .dispatching import Dispatcher
from .errors import BadInput, NotFound, StaleThread
from .home import Home, at_home
from .mailsync import Ahead, FirstRun, Health, MailSync
from .message import compose, recipients
from .message.models import Address, Attachment, Draft, Message, Outgoing
from .oauth import saved_token
from .onserver import OnServer
from .outbox import Outbox
from .policy import Kind, Policy, nobody_reads
from .routing import Choice, Route
from .sent import Sent, shown
from .settings import Account, Settings
from .smtp import Submitter
from .store import Filed, Hit, Thread, ThreadStore, Tx, Why, belonging, claims, receipts, submissions
from .store.claims import Claim
from .store.together import Together
from .teamwork import Teamwork
from .tokenfile import TokenFile
from .turns import Sleep
from .unbroken import TaskGroup
from .waits import Waits

if TYPE_CHECKING:
    from .blocking import SyncInbox

Recipient = Address | str


def system_clock() -> datetime:
    return datetime.now(UTC)


@at_home
class Inbox(Deciding, OnServer, Teamwork):
    """One account, seen by one agent, over a store that several agents share.

    ```python
    async with Inbox(account, store="sqlite:///agentmail.db", agent="support") as inbox:
        for message in await inbox.receive():
            await inbox.reply(message, "Thank you.")
    ```

    Entering opens the store and nothing else; a mail server is contacted by the first call that needs it.
    Nothing runs in the background. Use one Inbox per account and process; share a `ThreadStore` between several.
    """

    def __init__(
        self,
        account: Account,
        *,
        store: str | ThreadStore = "sqlite:///agentmail.db",
        agent: str = "agent",
        policy: Policy | None = None,
        routes: Sequence[Route | Choice] = (),
        first_run: FirstRun | None = None,
        mailboxes: Sequence[str] = ("inbox", "sent"),
        clock: Callable[[], datetime] = system_clock,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """
        Args:
            store: A database URL, or a ThreadStore that several inboxes share.
            agent: The name to read, claim and send under. Processes with the same name share the work.
            policy: What may leave; see `Policy`.
            routes: Which agent a new thread goes to; without any, whoever asks first.
            first_run: What becomes of the mail that is there already; by default the newest 50 messages are history,
                but for what came within 15 minutes and is unread.
            mailboxes: Roles (`inbox`, `sent`, `junk`, `archive`, `all`) or names to read.
            clock, sleep: The time; tests give their own.
        """
        if not agent or not agent.isprintable():
            raise BadInput("agent must be a printable name, such as 'support'")
        self.account = account
        self.agent = agent
        self.policy = policy or Policy()
        self.routes = tuple(routes)
        self.home = Home()
        """The event loop it lives on. Calls from other loops and threads go there by themselves."""
        self._clock, self._sleep = clock, sleep
        self._group: TaskGroup | None = None
        self._background: asyncio.Task[None] | None = None
        self._look_at_timers = 0.0
        self._in_hand = WeakSet()
        self._owns_store = isinstance(store, str)
        # The system's clock is nobody's in particular: then leases go by the database's, which all workers share.
        own_clock = None if clock is system_clock else clock
        self.store = ThreadStore(store, clock=own_clock) if isinstance(store, str) else store
        self._waits = Waits(self.store, account.key)
        self._dispatcher = Dispatcher(self.store, account.key)
        self._held = Together(self._held_for)
        self._sync = MailSync(account, self.store, clock=clock, first_run=first_run, mailboxes=mailboxes)
        self._submitter = Submitter(account)
        self._outbox = Outbox(
            account, self.store, self._submitter, evidence=self._sync, policy=self.policy, clock=clock
        )

    @classmethod
    def from_env(
        cls,
        *,
        policy: Policy | None = None,
        routes: Sequence[Route | Choice] = (),
        first_run: FirstRun | None = None,
        **given: Any,
    ) -> Self:
        """An Inbox from `AGENTMAIL_*`, `.env` and `agentmail.toml`; what is given as an argument wins.

        Raises:
            ConfigurationError: something is missing or wrong; it names the setting.
        """
        settings = Settings.load(**given)
        account = settings.account()
        if account.password is None:  # the account may have logged in by `agentmail login`
            saved = saved_token(TokenFile(settings.token_file.expanduser()), account.key)
            account = account.model_copy(update={"token": saved}) if saved is not None else account
        return cls(
            account, store=settings.store, agent=settings.agent, policy=policy, routes=routes,
            first_run=first_run,
        )  # fmt: skip

    _settles = True  # entering it is what makes a loop its home

    @classmethod
    def open_sync(cls, account: Account | None = None, **options: Any) -> SyncInbox:
        """For programs without an event loop: `with Inbox.open_sync(account, store=…) as inbox: inbox.receive()`.

        Args:
            account: Without it, the account of the settings, as `from_env` reads it.
            options: Those of `Inbox`, or of `from_env`.
        """
        from .blocking import SyncInbox  # it is made of this class

        return SyncInbox(lambda: cls.from_env(**options) if account is None else cls(account, **options))

    async def __aenter__(self) -> Self:
        self.home.settle()
        await self.store.open()
        group = TaskGroup()
        await group.__aenter__()
        self._group = group
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        group, self._group = self._group, None
        try:
            await self.home.leave()
            if self._background is not None:
                self._background.cancel()
            if group is not None:
                await group.__aexit__(None, None, None)
            await self._put_all_back()
        finally:
            await self.close()

    async def close(self) -> None:
        """Leave both servers and, unless it was given, close the store. Returns within 5 seconds."""
        try:
            async with TaskGroup() as group:
                group.create_task(self._sync.close())
                group.create_task(self._outbox.close())
        finally:
            if self._owns_store:
                await self.store.close()

    # -- the main job

    async def receive(self, limit: int = 20) -> list[Message]:
        """Poll once; return the messages this agent name has not been given yet, oldest first, at most `limit`.

        Trap: a message is handed over once, in the transaction that reads it, whatever happens to it afterwards.
        Work that must survive a crash of its handler belongs in `turns()`.

        Reading never sets `\\Seen`. The account's own mail is not handed over, nor is what was there before the first
        sync (see `FirstRun`; what came just before is).

        Raises:
            ServerError: the IMAP server could not be reached, or refused; nothing was handed over, nothing is lost.
        """
        await self.sync()
        now = self._clock().timestamp()
        taken = await self.store.db.run(
            lambda tx: receipts.take_new(tx, account=self.account.key, agent=self.agent, limit=limit, now=now)
        )
        return [await self.store.message(f"m{number}") for number in taken]

    async def sync(
        self, *, progress: Callable[[str, int, int], None] | None = None, ahead: Ahead | None = None
    ) -> list[Filed]:
        """Poll once without handing anything over, and send what is due; what became of each message.

        Args:
            progress: Hears `(mailbox, messages filed, messages to file)` after each batch.
            ahead: A child process that prepares what comes (`mailsync.preparing_ahead`), where much is expected.
        """
        await self.store.open()
        self._sync.progress, self._sync.ahead = progress, ahead
        try:
            filed = await self._sync.poll()
        finally:
            self._sync.ahead = None
        await self._keep_promises(looked=True)
        await self._outbox.deliver_due()
        return filed

    async def reply(
        self,
        original: Message | str,
        text: str | None = None,
        *,
        html: str | None = None,
        reply_all: bool = False,
        cc: Iterable[Recipient] = (),
        attachments: Sequence[Attachment] = (),
        quote: bool = False,
        key: str | None = None,
        send_at: datetime | None = None,
    ) -> Sent:
        """Answer a message in its thread: In-Reply-To, the whole References chain, one "Re:", a new Message-ID.

        `original` is a Message of this store or its id (`"m45"`). The reply is filed in the thread, and its submission
        is a row of the outbox, before a byte goes to the server.

        Raises:
            NotFound: the message is not in this store.
            BadInput: something cannot be written into mail.
            Refused: the policy said no.
            PermanentFailure: the server refused it; the row stays and can be seen.
            ServerError: the server could not be reached; the row stays queued.
        """
        parent = await self._own(original)
        outgoing = await self._compose_reply(
            parent, text, html=html, reply_all=reply_all, cc=cc, attachments=attachments, quote=quote
        )
        left_out = self._unread(parent) if reply_all else ()
        return await self._submit(outgoing, kind="reply", answers=parent, key=key, send_at=send_at, left_out=left_out)

    async def send(
        self,
        to: Iterable[Recipient],
        subject: str,
        text: str | None = None,
        *,
        html: str | None = None,
        cc: Iterable[Recipient] = (),
        bcc: Iterable[Recipient] = (),
        attachments: Sequence[Attachment] = (),
        key: str | None = None,
        send_at: datetime | None = None,
    ) -> Sent:
        """Start a new thread. Raises what `reply` raises."""
        draft = Draft(to=_addresses(to), cc=_addresses(cc), bcc=_addresses(bcc), subject=subject, text=text, html=html,
                      attachments=tuple(attachments))  # fmt: skip
        await self.store.open()
        outgoing = compose.new(
            draft,
            sender=self._sender(),
            automatic=self.policy.mark_automatic,
            footer=self.policy.footer,
            secret=self.store.secret,
            now=self._clock(),
        )
        return await self._submit(outgoing, kind="new", answers=None, key=key, send_at=send_at)

    async def forward(
        self, message: Message | str, to: Iterable[Recipient], text: str = "", *, key: str | None = None
    ) -> Sent:
        """Send a message on, with its attachments, to somebody else. Raises what `reply` raises."""
        original = await self._own(message)
        outgoing = compose.forward(
            original,
            to=_addresses(to),
            text=text,
            sender=self._sender(),
            original_raw=await self.store.raw(str(original.id)),
            footer=self.policy.footer,
            automatic=self.policy.mark_automatic,
            secret=self.store.secret,
            now=self._clock(),
        )
        return await self._submit(outgoing, kind="forward", answers=original, key=key, send_at=None)

    # -- reading

    async def thread(self, id: str) -> Thread:  # noqa: A002
        """A thread with all its messages, oldest first. An id that was merged away resolves to where it went."""
        return (await self.store.thread(id)).bound_to(self)

    async def threads(
        self, status: str | None = None, limit: int = 20, after: str | None = None, *, assigned: str | None = None,
        stuck: bool = False,
    ) -> list[Thread]:  # fmt: skip
        """Threads by last activity, newest first, without their messages.

        Args:
            assigned: Only what waits for this agent, or for `"human"`.
            stuck: Only what no agent tries any more: too many turns on it failed.
        """
        found = await self.store.threads(
            status=status, limit=limit, after=after, account=self.account.key, assigned=assigned, stuck=stuck
        )
        return [thread.bound_to(self) for thread in found]

    async def assign(self, thread: str, agent: str, *, note: str = "") -> None:
        """Give a thread to an agent, or to `"human"`: it comes to them as a turn with the reason `handoff`.

        For people and supervisors: whoever holds the thread is fenced out. An agent in a turn uses `turn.hand_off`.
        """
        await self.store.assign(thread, agent, note=note, by=self.agent)

    async def settle(self, thread: str) -> None:
        """A person took care of a thread: nobody needs to look at it until new mail comes."""
        await self.store.settle(thread)

    async def message(self, id: str) -> Message:  # noqa: A002
        """A message by our id (`"m45"`) or by its Message-ID (`"<a@b>"`)."""
        return await self.store.message(id, account=self.account.key)

    async def raw(self, message: Message | str) -> bytes:
        """The bytes as they were received or sent."""
        return await self.store.raw(message if isinstance(message, str) else _id_of(message))

    async def attachment(self, id: str) -> Attachment:  # noqa: A002
        """An attachment with its content, by id (`"a7"`)."""
        return await self.store.attachment(id)

    async def search(self, query: str, limit: int = 20, after: str | None = None) -> list[Hit]:
        """Messages of this account by words and operators: `invoice from:ana -draft "exact words"`."""
        return await self.store.search(query, limit=limit, after=after, account=self.account.key)

    async def health(self) -> Health:
        """How receiving stands: whether the server lets us in, what went wrong last, and how far each mailbox is read.

        It asks the store, so it says what all processes know of the account together.
        """
        await self.store.open()
        return await self._sync.health()

    async def check_receiving(self) -> str:
        """Log in on the IMAP server and open the mailbox; what was found, in words. Reads nothing."""
        await self.store.open()
        capabilities = await self._sync.check()
        mailboxes = ", ".join((await self._sync.mailboxes())[:12])
        told = "tells of new mail at once (IDLE)" if "IDLE" in capabilities else "has to be polled"
        return f"logged in; {told}; mailboxes: {mailboxes}"

    async def check_sending(self) -> str:
        """Log in on the SMTP server; what it offers, in words. Sends nothing."""
        return "logged in; offers " + " ".join(await self._submitter.check())

    async def explain(self, message: Message | str) -> Why:
        """Which header or rule put a message into its thread, what was matched, what was rejected."""
        return await self.store.explain(message if isinstance(message, str) else _id_of(message))

    # -- inside

    async def _compose_reply(
        self,
        parent: Message,
        text: str | None,
        *,
        html: str | None,
        reply_all: bool,
        cc: Iterable[Recipient],
        attachments: Sequence[Attachment],
        quote: bool,
    ) -> Outgoing:
        return compose.reply(
            parent,
            text,
            html=html,
            sender=self._sender(),
            reply_all=reply_all,
            without=self._unread(parent) if reply_all else (),
            cc=_addresses(cc),
            attachments=tuple(attachments),
            quote=quote,
            own_addresses=self.account.own_addresses,
            ancestors=await self.store.ancestors(str(parent.id)),
            automatic=self.policy.mark_automatic,
            footer=self.policy.footer,
            secret=self.store.secret,
            now=self._clock(),
        )

    def _unread(self, parent: Message) -> tuple[str, ...]:
        """Whom a reply to all leaves out, since nobody reads there. None when it would reach nobody else: then the
        policy says what is wrong.
        """
        if self.policy.answer_automatic:
            return ()
        own = self.account.own_addresses
        to, cc = recipients.of_reply(parent, own, reply_all=True)
        unread = tuple(a.key for a in (*to, *cc) if nobody_reads(a.key))
        kept = recipients.of_reply(parent, own, reply_all=True, without=unread)
        still = {a.key for people in kept for a in people}
        return tuple(a for a in unread if a not in still) if still else ()

    def _sender(self) -> Address:
        return Address(name=self.account.name, email=self.account.address)

    async def _own(self, original: Message | str) -> Message:
        """The message as this store has it, or NotFound: a reply needs the thread, and the thread is in the store."""
        await self.store.open()
        if not isinstance(original, (Message, str)):
            raise BadInput(f'give a Message or its id ("m45"), not {type(original).__name__}')
        if isinstance(original, str):
            return await self.store.message(original, account=self.account.key)
        stored = await self.store.message(_id_of(original), account=self.account.key)
        if stored.message_id != original.message_id:
            raise NotFound(
                f"{original.id} is another message in this store ({stored.message_id}, not {original.message_id}): "
                "the message was read from another store; read it from this one"
            )
        return stored

    async def _submit(
        self, outgoing: Outgoing, *, kind: Kind, answers: Message | None, key: str | None, send_at: datetime | None,
        left_out: Sequence[str] = (),
    ) -> Sent:  # fmt: skip
        """One transaction writes the message into its thread and the submission row; then one attempt."""
        await self.store.register(self.account.key, self.account.own_addresses)

        async def ours(tx: Tx, queued: Sent) -> None:
            if queued.thread is not None:  # what comes back is for the agent that wrote
                await belonging.belongs_to(tx, int(queued.thread[1:]), account=self.account.key, agent=self.agent)

        sent = await self._outbox.submit(
            outgoing, then=ours, kind=kind, answers=answers, key=key, send_at=send_at, agent=self.agent, again=True,
            left_out=left_out,
        )  # fmt: skip
        return self._bound(sent)

    async def answer(self, claim: Claim, original: Message, text: str | None, **options: Any) -> Sent:
        """What `turn.reply` does: the claim, the reading and the row are checked and written in one transaction."""
        key, again = str(options.pop("key")), bool(options.pop("again"))
        outgoing = await self._compose_reply(original, text, **options)
        left_out = self._unread(original) if options["reply_all"] else ()

        async def work(tx: Tx) -> Sent:
            newest = await claims.look(tx, claim)
            earlier = await submissions.with_key(tx, self.account.key, key)
            if earlier is not None:
                return shown(earlier)  # this turn ran before: its answer stands, however it is worded now
            if newest > claim.newest:
                raise StaleThread(
                    f"m{newest} came into t{claim.thread} since this turn began: nothing was sent; finish the turn, "
                    "and the thread comes back with it"
                )
            return await self._outbox.enqueue(
                tx, outgoing, kind="reply", answers=original, key=key, agent=claim.agent, again=again, left_out=left_out
            )

        return self._bound(await self._outbox.deliver((await self.store.db.run(work)).id))

    def _bound(self, sent: Sent) -> Sent:
        """A Sent that can wait for its answer."""
        return sent.bound_to(self.wait_for_reply)


def _id_of(message: Message) -> str:
    if message.id is None:
        raise NotFound(
            "this message was never filed in a store, so it has no thread: receive it, or file it with store.file(); "
            "agentmail.message.compose.reply() builds a reply without a store"
        )
    return message.id


def _addresses(given: Iterable[Recipient]) -> tuple[Address, ...]:
    if isinstance(given, (str, Address)):
        given = (given,)
    return tuple(a if isinstance(a, Address) else compose.read_address(a) for a in given)
