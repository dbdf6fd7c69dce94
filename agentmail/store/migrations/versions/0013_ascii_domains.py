"""Addresses of domains in other scripts are compared by their ASCII form; what was stored before is brought into it.

Before, an account at `müller.example` filed its mail under that name, now it asks for `xn--mller-kva.example` and would
find an empty store. So the account is renamed everywhere, and the people that threads know with it.

Where mail stands under both names (somebody opened the store in between), two mailboxes would have to become one: then
the mail of each stays where it is and can be read there. Pauses and grants, which people gave, count for both.

SQLite's index of words marks each message with its account, and is told a message's words to change them, so they are
worked out from the message once more.
"""

# ruff: noqa: S608 - the names in the statements are all ours, what is stored is a parameter

import json
from collections.abc import Callable, Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

from agentmail.message.domains import address_key
from agentmail.message.models import Message
from agentmail.store.queries import place
from agentmail.store.search import account_mark
from agentmail.store.words import index_text

revision = "0013_ascii_domains"
down_revision = "0012_return_path"
branch_labels = None
depends_on = None

NAMED = {
    "connectivity": (), "departed": ("mailbox", "uidvalidity", "uid"), "granted": ("address",), "ident": ("key",),
    "mailbox": ("name",), "pause": ("cause",), "receipt_mark": ("agent",), "skipped": ("mailbox", "uidvalidity", "uid"),
    "slot": ("number",), "traffic": ("day",), "alias": ("key", "message"), "gmail": ("msgid",),
    "location": ("mailbox", "uidvalidity", "uid"),
}  # fmt: skip
"""Tables with one row for an account and these columns."""
NUMBERED = {
    "event": (), "quarantine": (), "thread": (), "apart": (), "holder": (), "work": (),
    "message": (("own_key",), ("content_key",)), "timer": (("key",),),
    "submission": (("key",), ("message_id",), ("answers", "generation")),
}  # fmt: skip
"""Tables whose rows have a number, and what else may stand once in an account."""
GIVEN_BY_PEOPLE = ("pause", "granted")
_PAGE = 500


def upgrade() -> None:
    db = op.get_bind()
    for old in _accounts(db):
        new = address_key(old)
        if db.execute(sa.text("SELECT 1 FROM message WHERE account = :new LIMIT 1"), {"new": new}).first():
            for table in GIVEN_BY_PEOPLE:
                _rename_named(db, table, NAMED[table], old, new)
        else:
            _rename(db, old, new)
    _own_addresses(db)
    _people(db)


def _accounts(db: sa.Connection) -> list[str]:
    named = " UNION ".join(
        f"SELECT account FROM {table} WHERE {_not_ascii(db, 'account')}" for table in (*NAMED, *NUMBERED)
    )
    rows = db.execute(sa.text(f"SELECT key FROM account WHERE {_not_ascii(db, 'key')} UNION {named}"))
    return sorted(key for (key,) in rows if key and key != address_key(key))


def _rename(db: sa.Connection, old: str, new: str) -> None:
    if db.dialect.name == "sqlite":
        _mark_anew(db, old, new)
    else:
        db.execute(sa.text("UPDATE search SET account = :new WHERE account = :old"), {"old": old, "new": new})
    for table, columns in NAMED.items():
        _rename_named(db, table, columns, old, new)
    for table, uniques in NUMBERED.items():
        free = "".join(
            f" AND NOT EXISTS (SELECT 1 FROM {table} AS o WHERE o.account = :new AND {_same(table, columns)})"
            for columns in uniques
        )  # fmt: skip
        db.execute(sa.text(f"UPDATE {table} SET account = :new WHERE account = :old{free}"), {"old": old, "new": new})
    for table in ("cursor", "webhook"):  # called "account label"
        rename = sa.text(
            f"UPDATE {table} SET name = :new || substr(name, :rest) WHERE substr(name, 1, :length) = :old "
            f"AND NOT EXISTS (SELECT 1 FROM {table} AS o WHERE o.name = :new || substr({table}.name, :rest))"
        )  # fmt: skip
        db.execute(rename, {"old": f"{old} ", "new": f"{new} ", "length": len(old) + 1, "rest": len(old) + 2})
    row = sa.text("SELECT own FROM account WHERE key = :key")
    own = [a for key in (old, new) for found in db.execute(row, {"key": key}) for a in _read(found.own)]
    db.execute(sa.text("DELETE FROM account WHERE key IN (:old, :new)"), {"old": old, "new": new})
    insert = sa.text("INSERT INTO account (key, own) VALUES (:key, :own)")
    db.execute(insert, {"key": new, "own": json.dumps(sorted({new, *own}))})


def _rename_named(db: sa.Connection, table: str, columns: tuple[str, ...], old: str, new: str) -> None:
    """What stands under the old name is what happened first, so it stays where both have a row."""
    names = {"old": old, "new": new}
    same = f" AND {_same(table, columns)}" if columns else ""
    both = f"EXISTS (SELECT 1 FROM {table} AS o WHERE o.account = :old{same})"
    db.execute(sa.text(f"DELETE FROM {table} WHERE account = :new AND {both}"), names)
    db.execute(sa.text(f"UPDATE {table} SET account = :new WHERE account = :old"), names)


def _same(table: str, columns: tuple[str, ...]) -> str:
    return " AND ".join(f"o.{c} = {table}.{c}" for c in columns)


def _mark_anew(db: sa.Connection, old: str, new: str) -> None:
    columns = "rowid, subject, sender, recipients, body, marks"
    values = ":rowid, :subject, :sender, :recipients, :body, :marks"
    forget = sa.text(f"INSERT INTO search (search, {columns}) VALUES ('delete', {values})")
    insert = sa.text(f"INSERT INTO search ({columns}) VALUES ({values})")
    for rows in _pages(db, "SELECT id, at, parsed FROM message WHERE account = :account AND id > :last", account=old):
        before, after = [], []
        for row in rows:
            words = index_text(Message.model_validate_json(row.parsed))
            one: dict[str, Any] = {
                "rowid": place(row.at, row.id), "subject": words.subject, "sender": words.sender,
                "recipients": words.recipients, "body": words.body,
            }  # fmt: skip
            before.append({**one, "marks": f"{words.marks} {account_mark(old)}"})
            after.append({**one, "marks": f"{words.marks} {account_mark(new)}"})
        db.execute(forget, before)
        db.execute(insert, sorted(after, key=lambda one: one["rowid"]))


def _own_addresses(db: sa.Connection) -> None:
    for key, own in db.execute(sa.text("SELECT key, own FROM account")).all():
        now = sorted(set(map(address_key, _read(own))))
        if now != sorted(_read(own)):
            update = sa.text("UPDATE account SET own = :own WHERE key = :key")
            db.execute(update, {"own": json.dumps(now), "key": key})


def _people(db: sa.Connection) -> None:
    """Who is known where, who wrote, and who speaks for what."""
    for table, column, keys in (
        ("person", "atom", ("thread",)), ("granted", "address", ("account",)),
    ):  # fmt: skip
        for row in db.execute(sa.text(f"SELECT * FROM {table} WHERE {_not_ascii(db, column)}")).mappings().all():
            if (now := _atom(row[column])) == row[column]:
                continue
            values = {"old": row[column], "new": now, **{k: row[k] for k in keys}}
            here = " AND ".join(f"{k} = :{k}" for k in keys)
            there = db.execute(sa.text(f"SELECT 1 FROM {table} WHERE {here} AND {column} = :new"), values).first()
            change = f"DELETE FROM {table}" if there else f"UPDATE {table} SET {column} = :new"
            db.execute(sa.text(f"{change} WHERE {here} AND {column} = :old"), values)
    _each(db, "apart", "atom", _atom)
    _each(db, "message", "sender", _atom)
    _each(db, "holder", "voucher", _voucher)
    # In JSON what is not ASCII is written as an escape.
    escaped = f"{'instr' if db.dialect.name == 'sqlite' else 'strpos'}(holders, :mark) > 0"
    rows = db.execute(sa.text(f"SELECT account, key, holders FROM ident WHERE {escaped}"), {"mark": "\\u"}).all()
    for account, key, holders in rows:
        now = json.dumps(sorted([thread, role, _voucher(voucher)] for thread, role, voucher in json.loads(holders)))
        update = sa.text("UPDATE ident SET holders = :now WHERE account = :account AND key = :key")
        db.execute(update, {"now": now, "account": account, "key": key})


def _each(db: sa.Connection, table: str, column: str, change: Callable[[str], str]) -> None:
    query = f"SELECT id, {column} FROM {table} WHERE id > :last AND {_not_ascii(db, column)}"
    update = sa.text(f"UPDATE {table} SET {column} = :now WHERE id = :id")
    for rows in _pages(db, query):
        if changed := [{"id": id_, "now": now} for id_, was in rows if (now := change(was)) != was]:
            db.execute(update, changed)


def _pages(db: sa.Connection, query: str, **values: Any) -> Iterator[list[Any]]:
    last = 0
    while rows := db.execute(sa.text(f"{query} ORDER BY id LIMIT {_PAGE}"), {**values, "last": last}).all():
        last = rows[-1].id
        yield list(rows)


def _not_ascii(db: sa.Connection, column: str) -> str:
    as_bytes = f"length(CAST({column} AS BLOB))" if db.dialect.name == "sqlite" else f"octet_length({column})"
    return f"{as_bytes} <> length({column})"


def _voucher(voucher: str) -> str:
    return voucher if voucher.isascii() else voucher[0] + "\n".join(sorted({_atom(a) for a in voucher[1:].split("\n")}))


def _atom(atom: str) -> str:
    """An address, `@domain`, or `~address`; a `#list` is no address."""
    if atom.isascii() or atom.startswith("#"):
        return atom
    return f"~{address_key(atom[1:])}" if atom.startswith("~") else address_key(atom)


def _read(value: Any) -> list[str]:
    return list(json.loads(value) if isinstance(value, str) else value)
