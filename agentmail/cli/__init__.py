"""The `agentmail` command.

Exit codes: 0 done; 1 the answer is "no"; 2 usage; 3 settings, the server or the store failed.
What is printed for people goes through rich, for programs (`--json`) straight to stdout. Mail text is cleaned of
control characters by the parser, and never read as markup.
"""

from __future__ import annotations

import gc
import sys


def main() -> None:
    """The entry point."""
    gc.disable()  # modules stay: looking through them while they come for what may go was a fifth of the start
    from .app import start  # not above: whoever imports a module of this package has no need of the others
    from .commands import load

    app = load(sys.argv[1:])
    gc.freeze()
    gc.enable()
    start(app)


__all__ = ["main"]
