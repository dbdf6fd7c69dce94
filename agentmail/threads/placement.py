"""Which messages belong together: a function of the set of messages, never of the order they came in.

A message *holds* ids: it owns some (its Message-ID and its aliases) and mentions others (In-Reply-To, References).
Two threads become one when they hold the same id, and one is *believed* in the other. That is all.

Why the order cannot matter: what a message holds, and what it lets a thread know, is fixed by its own bytes. Joining
only ever adds to what a thread holds and knows, so it can only make further joins possible, never impossible. The
joins that follow from a set of messages are therefore its least fixpoint, and every order reaches the same one.
Keep it that way: a rule that looks at what is *not* there (yet) would break law 4.

Three ways to hold an id:

- `own`: this message is known by it;
- `firm`: it mentions it, and joins whoever else mentions it, even when nobody owns it (a ghost);
- `weak`: it mentions something that may be no id at all (no "@", a participant's address, no angle brackets, one of
  several in In-Reply-To): it joins only the owner.

Who is believed (the guard against strangers, `docs/explanation/threading.md`): each hold carries a `voucher`,
the atoms of which the other thread must know one, or all. An atom is an address, `@domain`, `#list-id` or `~reply-to`.
In an archive without an account everybody is believed.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product
from typing import Literal, NamedTuple

from ..message.domains import address_key
from ..message.identifiers import find_ids, normalise
from ..message.models import Message
from .providers import belongs_to_everybody

Role = Literal["own", "firm", "weak"]

EVERYWHERE = "!"
"""The voucher that every thread believes."""
NOWHERE = "?"
"""The voucher that no thread believes."""
_ASKED = "~"
"""Before an address that somebody asked answers to go to (Reply-To): it takes no part yet, but may answer."""
_SEP = "\n"
"""Between the atoms of a voucher: parsed addresses never hold a line break."""
_LONGEST_KEY = 200
"""Characters of an id as key. Longer ones are cut and told apart by a digest: a database index has limits."""


class Hold(NamedTuple):
    """That a thread holds an id."""

    thread: int
    role: str
    voucher: str


Held = tuple[str, str]
"""One way of holding an id: role and voucher."""


@dataclass(frozen=True, slots=True)
class Facts:
    """All that placement needs to know of one message."""

    holds: Mapping[str, tuple[Role, str]]
    """Id key -> role and voucher."""
    people: Mapping[str, str]
    """The atoms that a thread gets to know by this message, with the names that stood beside them."""


def key_of(message_id: str) -> str:
    """The form of a Message-ID to compare and to store by."""
    key = normalise(message_id)
    if len(key) <= _LONGEST_KEY:
        return key
    return f"{key[:100]}…{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()}"


def facts_of(
    message: Message, *, guarded: bool = False, own: Collection[str] = (), outgoing: bool = False,
    answers: bool = False, also_to: Iterable[str] = (), aliases: Iterable[str] = (),
) -> Facts:  # fmt: skip
    """Read off a message what it holds, and whom it makes known.

    Args:
        guarded: False for an archive that belongs to no account: its messages join by ids alone.
        own: The account's own addresses, lower case.
        outgoing: The account itself sent it: it may join where it answers.
        answers: The caller knows exactly which message it answers, so its ids need not say it.
        also_to: Recipients that no header names (Bcc).
        aliases: Further ids it is known by.
    """
    owns = {key_of(i) for i in (*owned_ids(message), *aliases)}
    roles = mentioned(message)
    extra = set(map(address_key, also_to))
    vouchers = _Vouchers(message, guarded=guarded, own=own, outgoing=outgoing, answers=answers, extra=extra)
    holds: dict[str, tuple[Role, str]] = {key: ("own", vouchers.for_owner()) for key in owns}
    for message_id in dict.fromkeys((*message.references, *message.in_reply_to)):
        key = key_of(message_id)
        if key not in holds:
            holds[key] = (roles[key], vouchers.for_mention(message_id))
    if message.bounce is not None and message.bounce.message_id:
        # RFC 3464: the report names the mail that came back; its header rarely does. It can only join an owner.
        holds.setdefault(key_of(message.bounce.message_id), ("weak", vouchers.for_mention(message.bounce.message_id)))
    return Facts(holds, vouchers.people())


def owned_ids(message: Message) -> tuple[str, ...]:
    """The ids it is known by. One without "@" and brackets is no id, but who answers it will put brackets around it."""
    if "no-message-id" not in message.defects:
        return message.known_ids
    bare = [v.strip() for v in message.header_all("Message-ID")]
    return (*message.known_ids, *(f"<{v}>" for v in bare if v and not set(v) & set("<> \t,")))


def mentioned(message: Message) -> dict[str, Role]:
    """The ids in References and In-Reply-To, by key, without its own: `firm` or `weak`."""
    if not message.references and not message.in_reply_to:
        return {}  # most mail of an agent's own begins a thread
    own = {key_of(i) for i in owned_ids(message)}
    bare = _bare(message)
    addresses = {a.key for a in (*message.people(), *message.reply_to)}
    sure = {*message.references, *message.in_reply_to[-1:]}
    roles: dict[str, Role] = {}
    for message_id in (*message.references, *message.in_reply_to):
        key = key_of(message_id)
        if key in own:
            continue
        firm = (
            "@" in message_id
            and message_id in sure
            and message_id not in bare
            and address_key(message_id.strip("<>")) not in addresses
        )
        roles.setdefault(key, "firm" if firm else "weak")
    return roles


def named_in(message: Message) -> dict[str, str]:
    """The key of every id in a message -> where it stands: what `Match.header` says."""
    keys = {key_of(i): "Message-ID" for i in message.known_ids}
    for header, ids in (("In-Reply-To", message.in_reply_to), ("References", message.references)):
        for message_id in ids:
            keys.setdefault(key_of(message_id), header)
    if message.bounce is not None and message.bounce.message_id:
        keys.setdefault(key_of(message.bounce.message_id), "bounce report")
    return keys


def _bare(message: Message) -> frozenset[str]:
    """The mentioned ids that stood without angle brackets."""
    if "bare-reference" not in message.defects:
        return frozenset()
    bare: set[str] = set()
    firm: set[str] = set()
    for name, kind in (("In-Reply-To", "in-reply-to"), ("References", "references")):
        for value in message.header_all(name):
            found = find_ids(value, "in-reply-to" if kind == "in-reply-to" else "references")
            bare.update(found.bare)
            firm.update(found.ids)
    return frozenset(bare - firm) if bare else frozenset((*message.references, *message.in_reply_to))


class _Vouchers:
    """Who speaks for a message when it wants into a thread."""

    def __init__(
        self, message: Message, *, guarded: bool, own: Collection[str], outgoing: bool, answers: bool, extra: set[str]
    ) -> None:
        self.message = message
        self.guarded = guarded
        self.own = own
        self.answers = answers
        self.extra = extra
        self.list_id = list_id(message)
        self.forged = message.auth is not None and message.auth.dmarc == "fail"
        sender = message.sender.key if message.sender is not None else ""
        self.outgoing = outgoing or (sender in own and not self.forged)
        self.parent = parent_choices(message)[:1]

    def for_owner(self) -> str:
        if not self.guarded or self.outgoing:
            return EVERYWHERE
        return _one_of(self._sender_atoms())

    def for_mention(self, message_id: str) -> str:
        if not self.guarded:
            return EVERYWHERE
        if not self.outgoing:
            return _one_of(self._sender_atoms(message_id))
        if self.answers:
            return NOWHERE  # the caller says where it belongs; RFC 5322 3.6.4 copies other people's claims into it
        recipients = {a.key for a in self.message.recipients if a.email} | self.extra - {*self.own}
        if message_id in self.parent and recipients:
            # Who repeats a Message-ID that we answer was not who we answered.
            return _one_of(atom for email in recipients for atom in (*atoms_of(email), f"{_ASKED}{email}"))
        # The chain in our answer to a stranger holds the ids that the stranger claimed: they count only when everybody
        # we write to is known there, or our own answer would carry the stranger in.
        return _all_of(recipients)

    def _sender_atoms(self, message_id: str = "") -> set[str]:
        atoms: set[str] = set()
        sender = self.message.sender
        if sender is not None and not self.forged:
            atoms.update(atoms_of(sender.key))
            atoms.add(f"{_ASKED}{sender.key}")
        if self.list_id:
            atoms.add(self.list_id)
        bounce = self.message.bounce
        if bounce is not None and bounce.message_id == message_id:
            for failed in bounce.recipients:  # a report speaks for the recipient it reports on
                atoms.update(atoms_of(address_key(failed.email)))
        return atoms

    def people(self) -> dict[str, str]:
        known: dict[str, str] = {}
        sender = self.message.sender
        everybody = [*self.message.recipients, *([sender] if sender is not None and not self.forged else [])]
        for address in everybody:
            if address.email:
                known[address.key] = address.name or known.get(address.key, "")
        for email in self.extra:
            known.setdefault(email, "")
        if self.guarded:
            for email in tuple(known):
                for atom in atoms_of(email):
                    known.setdefault(atom, "")
            for address in self.message.reply_to:
                known[f"{_ASKED}{address.key}"] = ""
            if self.list_id:
                known[self.list_id] = ""
        return known


def atoms_of(email: str) -> Iterator[str]:
    """What an address is known by: itself, and its domain unless everybody can have an address there."""
    if email:
        yield email
        domain = email.rpartition("@")[2]
        if "@" in email and domain and not belongs_to_everybody(domain):
            yield f"@{domain}"


def list_id(message: Message) -> str:
    """`#` and the List-Id (RFC 2919) of a mailing list's mail; empty for other mail."""
    value = message.header("List-Id")
    if value is None or "<" not in value or ">" not in value:
        return ""
    inner = "".join(value.rpartition("<")[2].partition(">")[0].split()).casefold()
    return f"#{inner}" if inner else ""


def _one_of(atoms: Iterable[str]) -> str:
    return "?" + _SEP.join(sorted(atoms))


def _all_of(atoms: Iterable[str]) -> str:
    together = _SEP.join(sorted(atoms))
    return "&" + together if together else EVERYWHERE


def missing(voucher: str, known: Collection[str], own: Collection[str] = ()) -> frozenset[str]:
    """The atoms any of which (`?`) or all of which (`&`) a thread would have to know; empty when it is believed."""
    if voucher == EVERYWHERE:
        return frozenset()
    atoms = _atoms(voucher)
    if voucher[0] == "&":
        return frozenset(a for a in atoms if a not in known and a not in own and f"{_ASKED}{a}" not in known)
    if any(a in known or a in own for a in atoms):
        return frozenset()
    return atoms or frozenset((_NOBODY,))


@lru_cache(maxsize=4096)
def _atoms(voucher: str) -> frozenset[str]:
    return frozenset(a for a in voucher[1:].split(_SEP) if a)


_NOBODY = "-"
"""An atom that no thread knows: what is missing when nothing can speak for a message."""


def unknown(atoms: Collection[str]) -> str:
    """Why a thread does not believe a message, in words; `atoms` as `missing` returned them."""
    if _NOBODY in atoms:
        return "nobody speaks for it: its sender is missing, or failed the check of the receiving server (DMARC)"
    return "the thread does not know " + ", ".join(sorted(a for a in atoms if a[0] not in "@~") or sorted(atoms))


def parent_choices(message: Message) -> list[str]:
    """The ids that could be its parent, best first.

    As notmuch chooses: In-Reply-To when it is exactly one clean id that References does not contradict by containing it
    earlier, else the last of References, and so on backwards. (RFC 5256 would take the last reference.)
    """
    if not message.references and not message.in_reply_to:
        return []
    own = set(message.known_ids)
    references = [i for i in dict.fromkeys(reversed(message.references)) if i not in own]
    replied = [i for i in message.in_reply_to if i not in own]
    first = replied if len(replied) == 1 else []
    return list(dict.fromkeys((*first, *references, *reversed(replied))))


def claimed_parent(message: Message, refused: Collection[str]) -> str | None:
    """Of the ids by which a message was kept out, the one that it means as its parent; None when there are none."""
    wanted = (choice for choice in parent_choices(message) if key_of(choice) in refused)
    return next(wanted, min(refused) if refused else None)


class Link(NamedTuple):
    """Two threads that hold the same id: joined by it, or kept apart because `claimant` is not believed."""

    key: str
    claimant: int
    target: int
    missing: frozenset[str]


@dataclass(slots=True)
class Board:
    """The part of the store that some messages touch: who holds their ids, and whom those threads know.

    Threads are numbers; new ones are negative until the store names them.
    """

    own: frozenset[str] = frozenset()
    """Atoms of the account itself: known in every thread of it."""
    holders: dict[str, dict[Hold, None]] = field(default_factory=lambda: defaultdict(dict))
    people: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    touched: set[int] = field(default_factory=set)
    """Threads that hold or know something new. All others are joined already as far as they must be, so only pairs
    with one of these are looked at: ten thousand strangers who name one id cost each new one a glance at the others,
    not all of them a glance at each other."""
    _up: dict[int, int] = field(default_factory=dict)
    _keys: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))

    def root(self, thread: int) -> int:
        """The thread that this one is part of by now."""
        while (up := self._up.get(thread, thread)) != thread:
            self._up[thread] = self._up.get(up, up)
            thread = up
        return thread

    def hold(self, key: str, hold: Hold) -> None:
        self.holders[key][hold] = None
        self._keys[self.root(hold.thread)].add(key)

    def know(self, thread: int, atoms: Iterable[str]) -> None:
        self.people[self.root(thread)].update(atoms)

    def touch(self, thread: int) -> None:
        """Say that a thread holds or knows more than it did when the rest was settled."""
        self.touched.add(self.root(thread))

    def add(self, thread: int, facts: Facts) -> None:
        """Put a message on the board, in a (new) thread. `settle` then joins it."""
        self.know(thread, facts.people)
        self.touch(thread)
        for key, (role, voucher) in facts.holds.items():
            self.hold(key, Hold(thread, role, voucher))

    def join(self, a: int, b: int) -> bool:
        """Make two threads one, and say whether either got to know somebody by it.

        The oldest number wins; a new (negative) one never beats one that was handed out.
        """
        a, b = self.root(a), self.root(b)
        if a == b:
            return False
        winner, loser = sorted((a, b), key=_age)
        known, more = self.people[winner], self.people.pop(loser, set())
        grew = known != more
        known |= more
        self._up[loser] = winner
        self._keys[winner] |= self._keys.pop(loser, set())
        if grew or self.touched & {winner, loser}:
            self.touched.add(winner)
        self.touched.discard(loser)
        return grew

    def settle(self, keys: Iterable[str]) -> None:
        """Join all that must be joined, given that what is held by `keys` has changed."""
        waiting = dict.fromkeys(keys)
        while waiting:
            key = next(iter(waiting))
            del waiting[key]
            for thread in self._join_by(key):
                # Joined, they know more people than each did: ids that kept others apart may let them in now.
                waiting.update(dict.fromkeys(self._keys[self.root(thread)]))

    def _join_by(self, key: str) -> set[int]:
        """Join what one id joins; the threads that got to know somebody by it."""
        groups = self._groups(key)
        grown: set[int] = set()
        joined = len(groups) > 1
        while joined:
            joined = False
            for a in [root for root in groups if root in self.touched]:
                for b in list(groups):
                    if a == b or a not in groups or b not in groups:
                        continue
                    if any(self._refusals(x, a, y, b) == [] for x in groups[a] for y in groups[b]):
                        grew = self.join(a, b)
                        together = groups.pop(a) | groups.pop(b)
                        a = self.root(a)  # noqa: PLW2901
                        groups[a] = together
                        joined = True
                        if grew:
                            grown.add(a)
        return grown

    def _groups(self, key: str) -> dict[int, dict[tuple[str, str], None]]:
        """Who holds an id, by thread: each way of holding it once."""
        groups: dict[int, dict[tuple[str, str], None]] = {}
        for hold in self.holders.get(key, ()):
            groups.setdefault(self.root(hold.thread), {})[hold.role, hold.voucher] = None
        return groups

    def _refusals(self, x: Held, a: int, y: Held, b: int) -> list[Link] | None:
        """What keeps thread a (which holds an id as x) and thread b (as y) apart; empty: they must be joined.

        None when these two ways of holding it cannot join anybody.
        """
        (x_role, x_voucher), (y_role, y_voucher) = x, y
        if x_role != "own" and y_role != "own" and "weak" in {x_role, y_role}:
            return None  # two mentions of something that may be no id at all
        refusals = []
        # A mention wants into the owner's thread. Two owners, or two that mention a ghost, want into each other's.
        if (x_role != "own" or y_role == "own") and (lack := missing(x_voucher, self.people[b], self.own)):
            refusals.append(Link("", a, b, lack))
        if (y_role != "own" or x_role == "own") and (lack := missing(y_voucher, self.people[a], self.own)):
            refusals.append(Link("", b, a, lack))
        return refusals

    def kept_apart(self, keys: Iterable[str]) -> Iterator[Link]:
        """Every claim of or on a touched thread by one of `keys` that was refused, and what would let it in."""
        for key in keys:
            groups = self._groups(key)
            place = {root: i for i, root in enumerate(groups)}
            touched = [root for root in groups if root in self.touched]
            for a, b in product(touched, groups):
                if a == b or (b in self.touched and place[b] < place[a]):
                    continue  # each pair once
                owned = any(role == "own" for role, _ in (*groups[a], *groups[b]))
                for x, y in product(groups[a], groups[b]):
                    if owned and x[0] != "own" and y[0] != "own":
                        continue  # they could not do by a ghost what its owner refuses
                    for link in self._refusals(x, a, y, b) or ():
                        yield link._replace(key=key)


    def voices(self, key: str) -> dict[int, frozenset[str]]:
        """The threads that hold an id, and the atoms that could speak for each of them where it is not believed."""
        return {
            root: frozenset(
                atom for _, voucher in ways if voucher != EVERYWHERE for atom in _atoms(voucher) or (_NOBODY,)
            )
            for root, ways in self._groups(key).items()
        }


def group(facts: Sequence[Facts], *, own: Collection[str] = ()) -> list[list[int]]:
    """The threads of some messages, without a store: lists of indexes, in the order given."""
    board = Board(own=frozenset(atom for address in own for atom in atoms_of(address)))
    for i, known in enumerate(facts):
        board.add(i, known)
    board.settle(key for known in facts for key in known.holds)
    threads: dict[int, list[int]] = {}
    for i in range(len(facts)):
        threads.setdefault(board.root(i), []).append(i)
    return list(threads.values())


def _age(thread: int) -> tuple[bool, int]:
    return (thread < 0, abs(thread))
