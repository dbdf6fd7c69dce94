"""Bytes to SMTP: one submission, and an honest answer about how it ended.

aiosmtplib connects, negotiates TLS and logs in (`connecting`); then we speak the mail transaction ourselves, step by
step (`transaction`, over a `session`), because its exceptions do not tell a connection lost before the body from one
lost after the final dot, and only the second may have been sent.

```
connect ─▶ EHLO ─▶ STARTTLS ─▶ AUTH ─▶ MAIL ─▶ RCPT… ─▶ DATA ─▶ 354 ─▶ hook ─▶ body ─▶ deadline ─▶ dot ─▶ reply
└─────── an error is raised ───────┘   └──────── temporary or permanent: nothing was sent ───────┘   └ unknown ┘
```

Nothing is sent until the final dot (RFC 5321 4.1.1.4), so whatever breaks before it is certain. What breaks after it,
and a reply that is no reply, is `unknown`. Behind the dot, in the same write, go the commands of the mail that is next
on the connection, so that each takes one round trip. TLS is always verified; STARTTLS is required, never opportunistic.
"""

from .rewriters import assigned_id
from .session import Timeouts
from .submitter import Submitter
from .transaction import BeforeBody, Outcome, Refusals, State, Step, check_envelope

__all__ = [
    "BeforeBody", "Outcome", "Refusals", "State", "Step", "Submitter", "Timeouts", "assigned_id", "check_envelope",
]  # fmt: skip
