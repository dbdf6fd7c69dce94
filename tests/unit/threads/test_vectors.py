"""Every thread vector. What must hold holds; where another program's rule differs from ours, the reason stands here.

The rules are those of `vectors/threads/README.md`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from agentmail.threads.placement import facts_of, group, key_of
from agentmail.threads.tree import parents

from .vectors import Vector, every, load

OURS = ("any", "set", "INVARIANT", "robust", "judgement", "alias-aware")
"""The algorithms whose expectation is ours too."""

SUBJECT = "joins by subject alone; ours needs an id, or an account and the guarded subject rule"
SPLIT = "splits at a changed subject; ours is one thread, and threads/clients.py predicts who shows two"
TWIN = "a second message with the same id gets a thread of its own; ours keeps both in the thread of that id"
NO_AT = "an id without '@' joins nobody unless somebody owns it (the -at variant of this vector holds)"
FLAT = "hangs every answer under the root; ours under the message that it names"

DIFFERENT = {
    "cyrus-conv-split-at-100": "splits at 100 messages; a view's business, not the store's",
    "cyrus-conv-subject-changed-splits": SPLIT,
    "cyrus-subjects-no-references": SUBJECT,
    "doc-two-ids-in-irt-no-references": "reads the first id of In-Reply-To only; ours all, as notmuch",
    "imaptest-orderedsubject-base-subject-matrix": SUBJECT,
    "imaptest-orderedsubject-date-sort": SUBJECT,
    "imaptest-thread-loop": "cuts the loop into two threads; ours cuts it in the tree and keeps one thread",
    "imaptest-thread2-duplicate-id-no-subject": TWIN,
    "imaptest-thread3-duplicate-id-subject-merge": "a second message with the same id is a child; ours a sibling",
    "imaptest-thread4-reply-to-missing-merged-by-subject": SUBJECT,
    "james-jmap-related-04": NO_AT,
    "james-jmap-related-05": NO_AT,
    "james-jmap-related-07": NO_AT,
    "james-jmap-related-08": NO_AT,
    "james-jmap-related-09": NO_AT,
    "james-jmap-related-10": NO_AT,
    "james-jmap-unrelated-03": SPLIT,
    "james-jmap-unrelated-03-at": SPLIT,
    "james-jmap-unrelated-04-at": SPLIT,
    "james-jmap-unrelated-05-at": SPLIT,
    "jwz-orderedsubject-re-counters": FLAT,
    "jwz-orderedsubject-re-counters-at": FLAT,
    "mxr-conflicting-references-beat-in-reply-to": "ignores In-Reply-To beside References; ours reads both",
    "mxr-duplicate-message-id-first-wins": TWIN,
    "mxr-subject-blob-normalization": SUBJECT,
    "mxr-subject-prefixes-custom": SUBJECT,
    "mxr-subject-trailer-fwd-normalization": SUBJECT,
    "nylas-self-send": SUBJECT,
    "nylas-subject-needs-two-common-participants": SUBJECT,
    "stalwart-five-headless-replies": SUBJECT,
}  # fmt: skip


def ours(vector: Vector) -> tuple[frozenset[frozenset[str]], dict[str, str | None]]:
    known = [facts_of(m, aliases=a) for m, a in zip(vector.messages, vector.aliases, strict=True)]
    groups = group(known)
    tree: dict[str, str | None] = {}
    for thread in groups:
        names = [vector.keys[i] for i in thread]
        aliases = {key_of(a): vector.keys[i] for i in thread for a in vector.aliases[i]}
        tree |= parents([vector.messages[i] for i in thread], names=names, aliases=aliases)
    return frozenset(frozenset(vector.keys[i] for i in thread) for thread in groups), tree


@pytest.mark.parametrize("path", every(), ids=lambda p: p.stem)
def test_vector(path: Path) -> None:
    vector = load(path)
    threads, tree = ours(vector)
    assert sorted(vector.keys) == sorted(key for thread in threads for key in thread)
    agrees = (vector.threads is None or threads == vector.threads) and all(
        tree[child] == parent for child, parent in vector.parents.items()
    )
    if vector.algorithm.startswith(OURS):
        assert agrees
        assert vector.name not in DIFFERENT
    assert agrees == (vector.name not in DIFFERENT), "update the table of reasons"


@pytest.mark.parametrize("path", [p for p in every() if len(load(p).keys) > 1], ids=lambda p: p.stem)
def test_a_vector_backwards_gives_the_same(path: Path) -> None:
    vector = load(path)
    backwards = Vector(
        vector.name, vector.algorithm, vector.keys[::-1], vector.messages[::-1], vector.aliases[::-1],
        vector.threads, vector.parents,
    )  # fmt: skip
    assert ours(vector) == ours(backwards)
