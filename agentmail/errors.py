"""Every error that agentmail raises on purpose, sorted by what the caller can do next.

```
AgentMailError
├── ConfigurationError              a setting or a URL is missing or wrong; nothing was contacted: change it
├── BadInput (ValueError)           an argument that cannot be written into mail, or means nothing: change it
├── NotFound (LookupError)          no such thread, message, attachment or submission in this store
├── Refused                         our own policy said no; nothing was sent
├── Conflict                        somebody else was first: read again, then decide
│   ├── StaleThread                 a message arrived that this agent has not read
│   ├── StaleTurn                   the claim was lost; nothing of this turn was written
│   ├── AlreadyAnswered             this message has an answer
│   ├── HeldByOther                 another agent holds the thread
│   └── KeyReused                   the same key was used for other content
├── ServerError                     a mail server failed, or could not be reached
│   ├── Unreachable                 no connection: wrong host or port, refused, timed out
│   ├── CertificateRejected         the server's certificate does not prove its name
│   ├── AuthenticationFailed        user name, password or token refused: no retry until it changes
│   ├── Throttled                   the server asks for a pause (.retry_after seconds, if it said so)
│   ├── MailboxError                the IMAP side failed
│   │   └── MailboxReset            UIDVALIDITY changed: forget every uid
│   └── SubmissionError             the SMTP side failed (.code, .submission)
│       ├── TemporaryFailure        4xx or no connection: worth another attempt
│       ├── PermanentFailure        5xx: never again unchanged
│       └── OutcomeUnknown          lost after the body went: never again without evidence
├── StoreError                      the database failed
│   ├── StoreUnreachable            no connection to it, or no right to it
│   ├── StoreTooNew                 written by a newer agentmail: upgrade this one
│   └── StoreBusy                   locked for longer than we wait: try again
├── Bounced                         the mail came back
└── NoReply (TimeoutError)          nobody answered in time
```

`str(error)` is written for the person or the model that reads it: what is wrong, where, what to do.
Secrets are never part of it.
"""

from __future__ import annotations


class AgentMailError(Exception):
    """The root of the tree above. Catch it to catch everything agentmail raises on purpose."""


class ConfigurationError(AgentMailError):
    """A setting is missing or wrong. Nothing was contacted."""


class BadInput(AgentMailError, ValueError):
    """An argument cannot be written into mail without changing its meaning, or means nothing."""


class NotFound(AgentMailError, LookupError):
    """This store has no such thread, message, attachment or submission."""


class Refused(AgentMailError):
    """Our own policy said no. Nothing was sent."""


class Conflict(AgentMailError):
    """Somebody else was first. Read again, then decide."""


class StaleThread(Conflict):
    """A message arrived that this agent has not read yet."""


class StaleTurn(Conflict):
    """The claim was lost to another holder. Nothing of this turn was written."""


class AlreadyAnswered(Conflict):
    """This message has an answer already."""


class HeldByOther(Conflict):
    """Another agent holds the thread."""


class KeyReused(Conflict):
    """The same idempotency key was used before, for other content."""


class ServerError(AgentMailError):
    """A mail server failed, or could not be reached."""


class Unreachable(ServerError):
    """No connection: wrong host or port, refused, no route, timed out."""


class CertificateRejected(ServerError):
    """The server's certificate does not prove its name."""


class AuthenticationFailed(ServerError):
    """The server refused user name, password or token. Trying again without a change locks accounts."""


class Throttled(ServerError):
    """The server asks for a pause."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds the server asked for, or None."""


class MailboxError(ServerError):
    """The IMAP side failed."""


class MailboxReset(MailboxError):
    """UIDVALIDITY changed: no uid known so far means anything any more (RFC 9051 2.3.1.1)."""


class SubmissionError(ServerError):
    """The SMTP side failed."""

    def __init__(self, message: str, *, code: int | None = None, submission: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        """The SMTP reply code, if the server gave one."""
        self.submission = submission
        """The id of the outbox row that holds the mail, such as `"o3"`."""


class TemporaryFailure(SubmissionError):
    """4xx, or no connection: worth another attempt."""


class PermanentFailure(SubmissionError):
    """5xx: never again unchanged."""


class OutcomeUnknown(SubmissionError):
    """The connection was lost after the body went. It may have been sent: never again without evidence."""


class StoreError(AgentMailError):
    """The database failed."""


class StoreUnreachable(StoreError):
    """No connection to the database, or no right to use it."""


class StoreTooNew(StoreError):
    """A newer agentmail wrote this store. Upgrade this one; nothing was changed."""


class StoreBusy(StoreError):
    """The database stayed locked for longer than we wait."""


class Bounced(AgentMailError):
    """The mail came back undelivered."""


class NoReply(AgentMailError, TimeoutError):
    """Nobody answered in time."""
