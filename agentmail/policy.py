"""May this be sent, to whom, how often, with whose approval: pure decisions, below every framework.

`decide(policy, situation)` looks at values only; the store supplies the counts. No prompt is a safety measure, so
nothing here reads a model's reasons. Two origins:

- `program`: code called `inbox.send` or `inbox.reply`. Whoever wrote the code chose the people, so only the rules
  against loops and storms, the deny list and the pauses apply. `Policy(programs="checked")` applies all.
- `tool`: a model chose the people, perhaps after reading what an outsider wrote. Every rule applies.

A decision is `allow`, `hold` (a person approves or denies it) or `deny`. Each reason names its rule, the address, and
what would allow it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from .leaks import as_read, fetches, secrets_in
from .lookalikes import look_alike
from .message.domains import address_key, ascii_domain, same_domain
from .message.models import Message

Action = Literal["allow", "hold", "deny"]
Origin = Literal["program", "tool"]
Kind = Literal["new", "reply", "forward"]


class Policy(BaseModel):
    """What may leave, as one frozen value. The defaults are meant to be kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    send: Literal["auto", "hold", "draft"] = "auto"
    """`hold` and `draft`: nothing that a tool asks for leaves without approval."""
    programs: Literal["trusted", "checked"] = "trusted"
    """`checked`: the rules for tools hold for program code as well."""
    reply_to: Literal["participants", "anyone"] = "participants"
    """Who a reply may go to: people who take part in the thread, or whoever its headers name."""
    new_recipients: Action = "hold"
    """Somebody the mailbox never exchanged mail with."""
    people_added_by_outsiders: Action = "hold"
    """Somebody whom only another person's To or Cc brought in."""
    cross_read: Action = "hold"
    """Writing to outsiders in one thread after this agent has read others."""
    allow: tuple[str, ...] = ()
    """Addresses, and `@domain` for all of a domain, that are never new."""
    deny: tuple[str, ...] = ()
    """Addresses and `@domain`s that nothing is ever sent to."""
    max_recipients: int = Field(default=10, ge=1)
    """Of one message written by a tool."""
    max_reply_all: int = Field(default=50, ge=1)
    """Of one answer, whoever asks for it: the list was written by others, also when the program is trusted."""
    per_hour: int = Field(default=30, ge=0)
    per_day: int = Field(default=200, ge=0)
    """Messages of an account that tools wrote."""
    max_unanswered: int = Field(default=2, ge=0)
    """Messages in a row into one thread without an answer."""
    attachments: Literal["none", "thread", "mailbox"] = "thread"
    """Where attachments that a tool adds may come from."""
    remote_images: bool = False
    max_link_length: int = Field(default=300, ge=0)
    """A longer link can carry data out."""
    secrets: Action = "hold"
    """Text that looks like a key, token or password."""
    answer_automatic: bool = False
    """Answer machines. Trap: two machines that do never stop."""
    mark_automatic: bool = True
    """Auto-Submitted and X-Auto-Response-Suppress on what agents write (RFC 3834 5)."""
    footer: str | None = None
    """Stands below everything that is written, in the text and in the HTML: that a machine writes, say. Not twice, and
    not into what is quoted."""
    per_thread_10_minutes: int = Field(default=5, ge=1)
    per_thread_day: int = Field(default=10, ge=1)
    per_person_day: int = Field(default=10, ge=1)
    per_person_day_approved: int = Field(default=20, ge=1)
    """The caps on replies, whoever asks for them and whatever the headers say: they end loops that hide."""
    replies_per_hour: int = Field(default=200, ge=1)
    replies_per_domain_hour: int = Field(default=60, ge=1)
    max_hops: int = Field(default=5, ge=1)
    """How often agents may answer each other's answers (X-Agentmail-Loop)."""
    not_addressed: Action = "allow"
    """Answering mail whose To and Cc name no address of the account: a Bcc, a list, an alias it does not know of."""
    same_again: int = Field(default=3, ge=2)
    """So many near-identical messages in a row from one person are a machine's."""
    at_most_once: bool = False
    """Hold for a person what may have been sent, instead of sending it again after the search for it."""

    @field_validator("allow", "deny")
    @classmethod
    def _entries(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        for entry in entries:
            local, at, domain = entry.rpartition("@")
            if not at or ascii_domain(domain) is None or re.search(r"[\s<>*]", local):
                raise ValueError(f"{entry!r} is neither an address nor @domain, so it would match nobody")
        return entries


class Counts(BaseModel):
    """How much was sent already, from the windows of the store. Held mail counts; denied and canceled does not."""

    model_config = ConfigDict(frozen=True)

    thread_10_minutes: int = 0
    thread_day: int = 0
    person_day: Mapping[str, int] = Field(default_factory=dict)
    replies_hour: int = 0
    domain_hour: Mapping[str, int] = Field(default_factory=dict)
    tool_hour: int = 0
    tool_day: int = 0
    unanswered: int = 0
    """Our messages in the thread since the last one from somebody else."""


class Situation(BaseModel):
    """All that a decision is made of. Addresses are lower case."""

    model_config = ConfigDict(frozen=True)

    origin: Origin = "program"
    kind: Kind = "new"
    recipients: tuple[str, ...] = ()
    own: frozenset[str] = frozenset()
    wrote: frozenset[str] = frozenset()
    """Who sent a message of this thread, or was written to by us in it."""
    named: frozenset[str] = frozenset()
    """Whom only others' To or Cc brought into the thread."""
    known: frozenset[str] = frozenset()
    """Recipients that this account exchanged mail with, in any thread."""
    granted: frozenset[str] = frozenset()
    """Addresses that program code vouched for (`inbox.grant`)."""
    around: frozenset[str] = frozenset()
    """Domains of everybody in this thread, and of those that this account wrote to lately: whom one may imitate."""
    answers: Message | None = None
    text: str = ""
    """All that is written: also the subject, where it is not the answered message's."""
    html: str = ""
    attachments_elsewhere: tuple[str, ...] = ()
    """Names of attachments that come from other threads of the mailbox."""
    attachments_unknown: tuple[str, ...] = ()
    """Names of attachments that come from nowhere in the mailbox."""
    read_elsewhere: tuple[str, ...] = ()
    """Other threads that this agent has read in this run."""
    same_again: int = 0
    """How many of the newest messages from the answered person, one after another, say the same."""
    counts: Counts = Field(default_factory=Counts)
    approved: bool = False
    """A person approved this very content: only what protects other people's mailboxes still counts."""


class Reason(BaseModel):
    """Why something is held or denied."""

    model_config = ConfigDict(frozen=True)

    rule: str
    """The field of `Policy`, or the name of the guard: a key of `WAYS`."""
    action: Action
    text: str
    """For the person or the model that reads it: what, who, and what would allow it."""
    address: str | None = None


_APPROVE = "Have it approved"
_LATER = "Wait, have it approved, or raise the cap"
WAYS: Mapping[str, str] = {
    "deny": "Take the address off Policy.deny",
    "loop:own": "Name somebody else with send()",
    "loop:automatic": "Write to a person with send(), or set answer_automatic",
    "loop:no-reply": "Write to a person with send(), or set answer_automatic",
    "loop:null-sender": "Write to a person with send(), or set answer_automatic",
    "loop:hops": "Have it approved by a person, or raise max_hops",
    "loop:same-again": "Look whether a person writes there, then have it approved",
    "not_addressed": f"{_APPROVE}, add the address to the account's aliases, or set not_addressed='allow'",
    "max_reply_all": f"{_APPROVE}, name fewer people, or raise max_reply_all",
    "per_thread_10_minutes": _LATER,
    "per_thread_day": _LATER,
    "per_person_day": _LATER,
    "replies_per_hour": _LATER,
    "replies_per_domain_hour": _LATER,
    "per_hour": _LATER,
    "per_day": _LATER,
    "max_unanswered": "Wait for an answer, or have it approved",
    "send": _APPROVE,
    "max_recipients": f"{_APPROVE}, name fewer people, or raise max_recipients",
    "look_alike": f"{_APPROVE}, or put the address into Policy.allow when it is the right one",
    "reply_to": f"{_APPROVE}, answer the sender instead, or put the address into Policy.allow",
    "people_added_by_outsiders": f"{_APPROVE}, leave the address out, or put it into Policy.allow",
    "new_recipients": f"{_APPROVE}, put the address into Policy.allow, or let the program grant it",
    "cross_read": f"{_APPROVE}, or put the address into Policy.allow",
    "attachments": f"{_APPROVE}, leave the attachment out, or set attachments='mailbox'",
    "secrets": f"{_APPROVE}, or take it out of the text",
    "remote_images": f"{_APPROVE}, attach the image instead, or set remote_images",
    "max_link_length": f"{_APPROVE}, use a shorter link, or raise max_link_length",
}
"""For each rule, what would allow what it stopped."""


class Decision(BaseModel):
    model_config = ConfigDict(frozen=True)

    action: Action = "allow"
    reasons: tuple[Reason, ...] = ()

    def __str__(self) -> str:
        return "; ".join(r.text for r in self.reasons) or "allowed"


def decide(policy: Policy, s: Situation) -> Decision:
    """The strictest of what every rule says. Deterministic: the same values give the same decision."""
    reasons = [*_never(policy, s), *_loops(policy, s)]
    if not s.approved and (s.origin == "tool" or policy.programs == "checked"):
        reasons += [*_people(policy, s), *_volume(policy, s), *_content(policy, s)]
    rank = {"allow": 0, "hold": 1, "deny": 2}
    reasons = [r.model_copy(update={"text": f"{r.text} ({r.rule}). {WAYS[r.rule]}"}) for r in reasons
               if r.action != "allow"]  # fmt: skip
    action: Action = max((r.action for r in reasons), key=rank.__getitem__, default="allow")
    return Decision(action=action, reasons=tuple(sorted(reasons, key=lambda r: -rank[r.action])))


# -- for every origin -------------------------------------------------------------------------------------------------

_NO_REPLY = re.compile(
    r"(?:^|[.+_-])(?:no[-_.]?(?:reply|response)|do[-_.]?not[-_.]?(?:reply|respond))(?:[.+_-][^@]{0,64})?@"
)
_SYSTEM = re.compile(
    r"^(?:mailer-daemon|postmaster|mail-daemon|mdaemon|listserv|majordomo|sympa|mailman|owner-[^@]+|"
    r"[^@]+-(?:request|owner|bounces)|bounces?(?:\+[^@]+)?|auto-?(?:reply|responder))@"
)
_MACHINES = {"bounce": "a bounce", "auto-reply": "an automatic reply", "list": "a mailing list", "bulk": "bulk mail"}


def _never(policy: Policy, s: Situation) -> Iterable[Reason]:
    for address in s.recipients:
        if _listed(address, policy.deny):
            yield Reason(rule="deny", action="deny", address=address, text=f"{address} is on the deny list")
    if s.kind != "reply" or policy.answer_automatic:
        return
    if s.recipients and s.own.issuperset(s.recipients):
        yield Reason(rule="loop:own", action="deny", text="this reply would only go to ourselves")
    if s.answers is None:
        return
    kind = s.answers.automated
    if kind == "agent" and (s.answers.header("list-id") or s.answers.header("list-post")):
        kind = "list"
    if machine := _MACHINES.get(kind or ""):
        yield Reason(
            rule="loop:automatic",
            action="deny",
            text=f"{s.answers.id or 'the message'} is {machine}, and machines are not answered",
        )
    for address in s.recipients:
        if nobody_reads(address):
            yield Reason(
                rule="loop:no-reply",
                action="deny",
                address=address,
                text=f"nobody reads {address}",
            )
    return_path = s.answers.header("return-path")
    if return_path is not None and return_path.strip() in {"", "<>"} and kind in {None, "agent"}:
        yield Reason(
            rule="loop:null-sender",
            action="deny",
            text="the message has a null sender, which asks for no answer (RFC 3834 2)",
        )


def nobody_reads(address: str) -> bool:
    """Whether an address says that it is no person's: no-reply, MAILER-DAEMON, a list's machine."""
    return bool(_NO_REPLY.search(address) or _SYSTEM.search(address))


def left_out(address: str) -> Reason:
    """Why somebody does not get a reply to all."""
    return Reason(
        rule="loop:no-reply", action="allow", address=address,
        text=f"{address} was left out of the reply to all: nobody reads it (loop:no-reply)",
    )  # fmt: skip


def _loops(policy: Policy, s: Situation) -> Iterable[Reason]:
    """Caps that need no header: what two machines cannot hide from."""
    if s.kind != "reply":
        return
    c = s.counts
    if not s.approved and len(s.recipients) > policy.max_reply_all:
        yield Reason(
            rule="max_reply_all",
            action="hold",
            text=f"{len(s.recipients)} people would get this answer, more than {policy.max_reply_all}, and others "
            "wrote the list",
        )
    if s.answers is not None and not s.approved and not _addressed(s.answers, s.own):
        yield Reason(
            rule="not_addressed",
            action=policy.not_addressed,
            text=f"{s.answers.id or 'the message'} names no address of this account in To or Cc",
        )
    hops = hop_of(s.answers)
    if hops > policy.max_hops:
        yield Reason(
            rule="loop:hops",
            action="hold",
            text=f"agents have answered each other {hops} times here; the limit is {policy.max_hops}",
        )
    if c.thread_10_minutes >= policy.per_thread_10_minutes:
        yield _cap("per_thread_10_minutes", policy.per_thread_10_minutes, "replies in this thread within 10 minutes")
    if c.thread_day >= policy.per_thread_day:
        yield _cap("per_thread_day", policy.per_thread_day, "replies in this thread within a day")
    per_person = policy.per_person_day_approved if s.approved else policy.per_person_day
    for address in s.recipients:
        if c.person_day.get(address, 0) >= per_person:
            yield _cap("per_person_day", per_person, f"replies to {address} within a day", address)
    if c.replies_hour >= policy.replies_per_hour:
        yield _cap("replies_per_hour", policy.replies_per_hour, "replies of this account within an hour")
    for domain in sorted({_domain(a) for a in s.recipients}):
        if c.domain_hour.get(domain, 0) >= policy.replies_per_domain_hour:
            yield _cap("replies_per_domain_hour", policy.replies_per_domain_hour, f"replies to {domain} within an hour")
    if s.same_again >= policy.same_again:
        yield Reason(
            rule="loop:same-again",
            action="hold",
            text=f"the last {s.same_again} messages from this person say the same: it may be a machine",
        )


def _addressed(message: Message, own: Iterable[str]) -> bool:
    """Whether To or Cc name one of these, with or without a +tag. Our own mail, which a follow-up follows, counts."""
    named = {a.key for a in message.recipients}
    named |= {f"{local.partition('+')[0]}@{domain}" for local, _, domain in (n.rpartition("@") for n in named)}
    return message.outgoing or not named.isdisjoint(own)


def hop_of(message: Message | None) -> int:
    """How many agents have answered in a row, as the message says (X-Agentmail-Loop: tag;hop=n); 0 when it does not."""
    value = message.header("x-agentmail-loop") if message is not None else None
    found = re.search(r";\s*hop=(\d{1,4})\b", value or "")
    return int(found[1]) if found else 0


def _cap(rule: str, limit: int, what: str, address: str | None = None) -> Reason:
    return Reason(rule=rule, action="hold", address=address, text=f"already {limit} {what}, and that is the limit")


# -- for tools --------------------------------------------------------------------------------------------------------


def _people(policy: Policy, s: Situation) -> Iterable[Reason]:
    if policy.send != "auto":
        yield Reason(rule="send", action="hold", text="everything is held for approval")
    if len(s.recipients) > policy.max_recipients:
        yield Reason(
            rule="max_recipients",
            action="hold",
            text=f"{len(s.recipients)} recipients, more than {policy.max_recipients}",
        )
    forged = s.answers is not None and s.answers.auth is not None and s.answers.auth.dmarc == "fail"
    trusted = s.own | s.granted
    familiar = {_domain(a) for a in s.own | s.wrote | s.known | s.granted} | s.around
    familiar |= {_domain(address_key(a)) for a in policy.allow}
    for address in s.recipients:
        if address in trusted or _listed(address, policy.allow):
            continue
        elsewhere = s.kind == "reply" and _led_elsewhere(address, s.answers)
        twin = look_alike(_domain(address), familiar - {_domain(address)})
        if twin:
            yield Reason(
                rule="look_alike",
                action="hold",
                address=address,
                text=f"{address}: its domain looks like {twin} and is not",
            )
        if elsewhere and policy.reply_to == "participants":
            yield Reason(
                rule="reply_to",
                action="hold",
                address=address,
                text=f"Reply-To leads to {address}, who is not the sender",
            )
        elif address in s.named and address not in s.wrote:
            yield Reason(
                rule="people_added_by_outsiders",
                action=policy.people_added_by_outsiders,
                address=address,
                text=f"{address} was brought into the thread by somebody else and has not written",
            )
        elif forged and s.answers is not None and s.answers.sender is not None and address == s.answers.sender.key:
            yield Reason(
                rule="new_recipients",
                action=policy.new_recipients,
                address=address,
                text=f"the mail that claims to be from {address} failed DMARC: it may be anybody's",
            )
        elif address not in s.wrote and address not in s.known:
            yield Reason(
                rule="new_recipients",
                action=policy.new_recipients,
                address=address,
                text=f"{address} is new to this mailbox",
            )
    outsiders = [a for a in s.recipients if a not in trusted and not _listed(a, policy.allow)]
    if s.read_elsewhere and outsiders:
        yield Reason(
            rule="cross_read",
            action=policy.cross_read,
            address=outsiders[0],
            text=f"this agent has read {', '.join(s.read_elsewhere[:3])} before writing to {outsiders[0]}",
        )


def _led_elsewhere(address: str, answers: Message | None) -> bool:
    """Reply-To names it, and it is out of the sender's domain, with what is below and above that."""
    if answers is None or answers.sender is None or address not in {a.key for a in answers.reply_to}:
        return False
    there, here = f".{_domain(address)}", f".{_domain(answers.sender.key)}"
    above, below = sorted((there, here), key=len)
    return there != here and not (below.endswith(above) and above.count(".") > 1)


def _volume(policy: Policy, s: Situation) -> Iterable[Reason]:
    c = s.counts
    if c.tool_hour >= policy.per_hour:
        yield _cap("per_hour", policy.per_hour, "messages by agents within an hour")
    if c.tool_day >= policy.per_day:
        yield _cap("per_day", policy.per_day, "messages by agents within a day")
    if c.unanswered >= policy.max_unanswered:
        yield _cap("max_unanswered", policy.max_unanswered, "messages in a row without an answer")


_LINK = re.compile(r"https?://[^\s<>\"')\]]+", re.IGNORECASE)


def _content(policy: Policy, s: Situation) -> Iterable[Reason]:
    if s.attachments_elsewhere and policy.attachments != "mailbox":
        yield Reason(
            rule="attachments",
            action="hold",
            text=f"the attachment {s.attachments_elsewhere[0]!r} belongs to another thread",
        )
    if policy.attachments == "none" and (s.attachments_elsewhere or s.attachments_unknown):
        yield Reason(rule="attachments", action="hold", text="attachments are held")
    for name in secrets_in(as_read(s.text, s.html)):
        yield Reason(rule="secrets", action=policy.secrets, text=f"the text holds what looks like a {name}")
    if not policy.remote_images and fetches(s.html or s.text):
        yield Reason(rule="remote_images", action="hold", text="an image would be fetched from elsewhere")
    longest = max((len(m[0]) for m in _LINK.finditer(f"{s.text}\n{s.html}")), default=0)
    if longest > policy.max_link_length:
        yield Reason(
            rule="max_link_length",
            action="hold",
            text=f"a link of {longest} characters, more than {policy.max_link_length}",
        )


# -- comparing --------------------------------------------------------------------------------------------------------


def _listed(address: str, entries: Iterable[str]) -> bool:
    """`@acme.test` stands for the domain itself, not for what is below it."""
    domain, key = _domain(address), _bare(address)
    return any(key == _bare(address_key(e)) or (e.startswith("@") and same_domain(domain, e[1:])) for e in entries)


def _bare(address: str) -> str:
    """Without quotes that mean nothing: `"ana"@acme.test` is Ana (RFC 5321 4.1.2)."""
    return re.sub(r'^"([\w.+-]+)"@', r"\1@", address)


def _domain(address: str) -> str:
    return address.rpartition("@")[2]


def resembles(one: str, other: str) -> bool:
    """Whether two bodies say the same, but for numbers and some words: what a machine sends again and again."""
    a, b = _pairs(one), _pairs(other)
    return a == b or (bool(a and b) and len(a & b) / len(a | b) >= 0.8)


def _pairs(text: str) -> frozenset[tuple[str, str]]:
    words = re.sub(r"\d+", "0", text[:20_000].casefold()).split()
    return frozenset(zip(["", *words], [*words, ""], strict=True)) if words else frozenset()
