"""For tests of programs that use agentmail, and for its own demo: a mail server, people who answer, a clock, faults.

`EmbeddedMail` needs the extra: `pip install 'agentmail-inbox[testing]'`. The rest needs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .clock import ManualClock
from .faults import FaultProxy
from .people import Person
from .scripted import ScriptedServer

if TYPE_CHECKING:
    from .embedded import EmbeddedMail

__all__ = ["EmbeddedMail", "FaultProxy", "ManualClock", "Person", "ScriptedServer"]


def __getattr__(name: str) -> object:
    # Late, because it is the only one that needs the extra, and a third of a second to import.
    if name == "EmbeddedMail":
        from .embedded import EmbeddedMail

        return EmbeddedMail
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
