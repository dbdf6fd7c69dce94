"""For tests of programs that use agentmail, and for its own demo: a mail server, people who answer, a clock, faults.

Needs the extra: `pip install 'agentmail-inbox[testing]'`.
"""

from .clock import ManualClock
from .embedded import EmbeddedMail

__all__ = ["EmbeddedMail", "ManualClock"]
