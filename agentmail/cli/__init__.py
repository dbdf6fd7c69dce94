"""The `agentmail` command.

Exit codes: 0 done; 1 the answer is "no"; 2 usage; 3 settings, the server or the store failed.
What is printed for people goes through rich, for programs (`--json`) straight to stdout. Mail text is cleaned of
control characters by the parser, and never read as markup.
"""

from __future__ import annotations

from . import archive, doctor, files, login, mail, outbox, receiving
from .app import app, main

__all__ = ["app", "archive", "doctor", "files", "login", "mail", "main", "outbox", "receiving"]
