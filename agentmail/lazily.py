"""Names of a package that are imported when they are first asked for (PEP 562).

Whoever wants `parse` alone does not wait for the database library, and a process that only reads files does not carry
it. Type checkers do not run this: each package imports its names for them under TYPE_CHECKING.
"""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazily(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package, from the module of each of its names.

    `.` stands beside a name that is itself a module of the package.
    """

    def find(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if modules[name] == ".":
            value: Any = import_module(f".{name}", package)
        else:
            value = getattr(import_module(modules[name], package), name)
        setattr(sys.modules[package], name, value)  # asked for once
        return value

    def names() -> list[str]:
        return sorted(modules)

    return find, names
