"""The tree in the docstring of errors.py is the tree of the classes."""

import re

from agentmail import errors


def drawn() -> dict[str, str | None]:
    """Class name -> name of its parent, read off the drawing."""
    parents: dict[str, str | None] = {}
    stack: list[str] = []
    drawing = (errors.__doc__ or "").split("```")[1]
    for line in drawing.strip().splitlines():
        match = re.match(r"^([│├└─ ]*)(\w+)", line)
        assert match, line
        depth = len(match[1]) // 4
        del stack[depth:]
        parents[match[2]] = stack[-1] if stack else None
        stack.append(match[2])
    return parents


def test_the_drawing_is_the_tree() -> None:
    real = {
        cls.__name__: next((b.__name__ for b in cls.__bases__ if issubclass(b, errors.AgentMailError)), None)
        for cls in vars(errors).values()
        if isinstance(cls, type) and issubclass(cls, errors.AgentMailError)
    }
    assert drawn() == real


def test_none_is_an_os_error() -> None:
    """`except OSError` around a socket must not swallow our own policy's no. (TimeoutError is asked for by NoReply.)"""
    for name in drawn():
        cls = getattr(errors, name)
        assert name == "NoReply" or not issubclass(cls, OSError)


def test_every_error_has_a_place_in_the_reference() -> None:
    from pathlib import Path

    page = (Path(__file__).parents[2] / "docs/reference/errors.md").read_text("utf-8")
    assert [name for name in drawn() if f"`{name}`" not in page] == []
