"""The reference pages say what the code says."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from agentmail import Inbox, Message, Sent, Thread, Turn

ROOT = Path(__file__).parents[2]


def test_the_command_page_is_the_commands_own_help() -> None:
    path = ROOT / "scripts/write-command-reference.py"
    spec = importlib.util.spec_from_file_location("write_command_reference", path)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert (ROOT / "docs/reference/command.md").read_text("utf-8") == script.page(), "run `make docs`"


def test_every_page_is_reachable_from_the_index() -> None:
    index = (ROOT / "docs/index.md").read_text("utf-8")
    pages = [p.relative_to(ROOT / "docs") for p in (ROOT / "docs").rglob("*.md") if p.name != "index.md"]
    missing = [str(p) for p in pages if f"({p})" not in index and p.parent.name != "decisions"]
    assert missing == []


def test_every_decision_is_in_their_list() -> None:
    """Under its number and its title, in the order of the numbers."""
    pages = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))
    titles = [page.read_text("utf-8").partition("\n")[0].removeprefix("# ") for page in pages]
    assert [(page.name[:4], title) for page, title in zip(pages, titles, strict=True)] == [
        (f"{int(title.partition('.')[0]):04}", title) for title in titles
    ]
    listed = re.findall(r"^- \[(.*)\]\((.*)\)$", (ROOT / "docs/decisions/README.md").read_text("utf-8"), re.MULTILINE)
    assert listed == [(title, page.name) for page, title in zip(pages, titles, strict=True)]


@pytest.mark.parametrize("cls", [Inbox, Turn, Message, Thread, Sent])
def test_what_a_program_calls_is_on_its_page(cls: type[object]) -> None:
    page = (ROOT / "docs/reference/inbox.md").read_text("utf-8")
    names = {n for n in vars(cls) if not n.startswith("_")} | set(getattr(cls, "model_fields", ()))
    names |= {n for n in dir(cls) if not n.startswith("_")} if cls is Inbox else set()
    inside = {"answer", "home", "bound_to", "known_ids", "people", "recipients", "model_computed_fields", "model_copy"}
    named = {name for code in re.findall(r"`([^`]+)`", page) for name in re.findall(r"\w+", code)}
    assert sorted(n for n in names - inside - named if not n.startswith("model_")) == []


def test_every_kind_of_event_is_on_its_page() -> None:
    page = (ROOT / "docs/reference/events.md").read_text("utf-8")
    kind = re.compile(r'"((?:message|messages|thread|submission|account|mailbox|webhook)\.[a-z]+)"')
    columns = {"message.id", "message.headless", "thread.id", "submission.id"}  # of tables
    code = [p for p in (ROOT / "agentmail").rglob("*.py") if "migrations" not in p.parts and "testing" not in p.parts]
    found = {name for p in code for name in kind.findall(p.read_text("utf-8"))} - columns
    assert len(found) > 10
    assert sorted(name for name in found if f"`{name}`" not in page) == []
