"""What no database stores as text is refused in words, or found nowhere: never an error of SQL, and alike on both."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from agentmail.errors import BadInput, NotFound
from agentmail.store import ThreadStore

from ...unit.threads.worlds import US, message

SURROGATE, NUL = "a\ud800b", "a\x00b"

CALLS: dict[str, Callable[[ThreadStore, str], Awaitable[object]]] = {
    "threads of a status": lambda s, odd: s.threads(status=odd),
    "threads of an account": lambda s, odd: s.threads(account=odd),
    "threads of an agent": lambda s, odd: s.threads(assigned=odd),
    "messages": lambda s, odd: s.messages(account=odd),
    "message": lambda s, odd: s.message(f"<{odd}@x.example>"),
    "search": lambda s, odd: s.search(f"label:{odd} from:{odd} {odd}", account=odd),
    "admit": lambda s, odd: s.admit("t1", f"{odd}@x.example"),
    "forget": lambda s, odd: s.forget(f"{odd}@x.example"),
    "status": lambda s, odd: s.set_status("t1", odd),
    "label": lambda s, odd: s.set_labels("t1", add=[odd]),
    "note": lambda s, odd: s.add_note("t1", odd),
    "agent of a note": lambda s, odd: s.add_note("t1", "well", agent=odd),
    "assign": lambda s, odd: s.assign("t1", odd),
    "register": lambda s, odd: s.register(f"{odd}@x.example"),
    "quarantined": lambda s, odd: s.quarantined(account=odd),
}


@pytest.mark.parametrize("odd", [SURROGATE, NUL], ids=["surrogate", "nul"])
async def test_odd_text_is_refused_or_found_nowhere(store: ThreadStore, odd: str) -> None:
    await store.file(message("a"), account=US)
    for name, call in CALLS.items():
        try:
            found = await call(store, odd)
        except (BadInput, NotFound) as exc:
            str(exc).encode()  # can be printed
        else:
            assert not found or name in {"forget", "admit"}, name
    thread = await store.thread("t1")
    thread.model_dump_json()
    assert thread.count == 1


@pytest.mark.parametrize("odd", [{"k": float("nan")}, {"k": "\ud800"}, {"\ud800": 1}, {"k": object()}, {"k": {1, 2}}])
async def test_data_that_is_no_json_is_refused(store: ThreadStore, odd: dict[str, object]) -> None:
    await store.file(message("a"), account=US)
    with pytest.raises(BadInput, match="JSON"):
        await store.put_data("t1", odd)
    assert (await store.thread("t1")).data == {}


async def test_data_comes_back_as_it_was_answered(store: ThreadStore) -> None:
    await store.file(message("a"), account=US)
    answered = await store.put_data("t1", {1: "one", "tuple": (1, 2), "nul": "\x00"})  # type: ignore[dict-item]
    assert answered == (await store.thread("t1")).data == {"1": "one", "tuple": [1, 2], "nul": "\x00"}
